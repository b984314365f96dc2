import { z } from "zod";
import type { DeadLetterReads } from "../../adapters/dead-letters.ts";
import { deadLetterView } from "../../core/dead-letter.ts";
import { refuse } from "../../core/refusal.ts";
import { strictObject } from "../../core/strict-object.ts";
import type { ReplayAll } from "../../replay-all.ts";
import type { Resend } from "../../resend.ts";
import { errorBody, sendRefusal } from "../errors.ts";
import { after, before, pageSize } from "../schemas.ts";
import type { ApiServer } from "../typed-server.ts";

export interface DeadLetterRoutes {
  deadLetters: DeadLetterReads;
  resend: Resend;
  replayAll: ReplayAll;
}

const ENTRY_ID = /^\d{1,19}-\d{1,19}$/;
const MAX_REPLAYED = 10_000;

const listQuery = strictObject({
  reason: z
    .string()
    .optional()
    .meta({ description: "Part of the reason, in any case." }),
  before: before.optional(),
  after: after.optional(),
  limit: pageSize(50),
  cursor: z
    .string()
    .regex(ENTRY_ID, "must be the nextCursor of an earlier answer")
    .optional(),
});

const replayRequest = strictObject({
  filter: strictObject({
    reason: z.string().optional(),
    endpointId: z.string().toLowerCase().optional(),
    webhookUrlOrigin: z
      .url("must be an origin, like https://hooks.example.com")
      .transform((url) => new URL(url).origin)
      .optional(),
    before: before.optional(),
    after: after.optional(),
  }).default({}),
  dryRun: z.boolean().meta({ description: "True: only count." }).default(false),
  limit: z
    .int()
    .min(1)
    .max(MAX_REPLAYED, `must be at most ${MAX_REPLAYED}`)
    .default(1000),
});

const letterBody = z
  .object({
    entryId: z.string(),
    kind: z.enum(["delivery", "entry", "record"]).meta({
      description:
        "A delivery that was given up, an entry that never parsed, or a record that Postgres refused.",
    }),
    deliveryId: z.string(),
    leadId: z.string().nullable(),
    endpointId: z.string().nullable(),
    event: z.string().nullable(),
    webhookUrl: z.string().nullable(),
    reason: z.string().nullable(),
    failedAt: z.string(),
    attempt: z.int().nullable(),
  })
  .meta({ id: "DeadLetter" });

const replayedBody = z.object({ deliveryId: z.string(), attempt: z.int() });

const bulkBody = z.object({
  status: z.literal("success"),
  dryRun: z.boolean(),
  count: z.int().meta({
    description: "Dead letters replayed, or in a dry run those that match.",
  }),
  skipped: z.array(z.object({ entryId: z.string(), error: z.string() })),
});

export function addDeadLetterRoutes(
  server: ApiServer,
  { deadLetters, resend, replayAll }: DeadLetterRoutes,
): void {
  server.get(
    "/dead-letters",
    {
      schema: {
        summary: "List dead letters, newest first",
        querystring: listQuery,
        response: {
          200: z.object({
            status: z.literal("success"),
            deadLetters: z.array(letterBody),
            nextCursor: z.string().nullable(),
          }),
          "4xx": errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const { letters, nextCursor } = await deadLetters.list(request.query);
      return reply.send({
        status: "success",
        deadLetters: letters.map(deadLetterView),
        nextCursor,
      });
    },
  );

  server.post(
    "/dead-letters/:entryId/replay",
    {
      schema: {
        summary: "Send a dead letter again, now",
        description:
          "Under the same webhook-id; the attempt numbers go on where the history has some.",
        params: z.object({ entryId: z.string() }),
        response: {
          202: z.object({
            status: z.literal("success"),
            delivery: replayedBody,
          }),
          "4xx": errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const { entryId } = request.params;
      const letter = ENTRY_ID.test(entryId)
        ? await deadLetters.find(entryId)
        : null;
      if (letter === null)
        return sendRefusal(
          reply,
          refuse(404, "entryId", "is not a known dead letter").refusal,
        );
      const result = await resend.replay(letter);
      if (!result.ok) return sendRefusal(reply, result.refusal);
      return reply
        .code(202)
        .send({ status: "success", delivery: result.value });
    },
  );

  server.post(
    "/dead-letters/replay",
    {
      schema: {
        summary: "Send many dead letters again",
        body: replayRequest,
        response: {
          202: bulkBody,
          200: bulkBody,
          "4xx": errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const { filter, dryRun, limit } = request.body;
      const result = await replayAll({ ...filter, limit }, dryRun);
      return reply
        .code(dryRun ? 200 : 202)
        .send({ status: "success", ...result });
    },
  );
}
