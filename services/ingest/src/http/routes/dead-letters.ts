import { z } from "zod";
import type {
  DeadLetterQuery,
  DeadLetters,
} from "../../adapters/dead-letters.ts";
import { deadLetterView } from "../../core/dead-letter.ts";
import { refuse } from "../../core/refusal.ts";
import type { Resend } from "../../resend.ts";
import { errorBody, sendRefusal } from "../errors.ts";
import type { ApiServer } from "../server.ts";
import { instant, pageSize } from "./inspect.ts";

export interface DeadLetterRoutes {
  deadLetters: DeadLetters;
  resend: Resend;
  streamKey: string;
}

const ENTRY_ID = /^\d{1,19}-\d{1,19}$/;
const MAX_REPLAYED = 10_000;
const READ_AT_ONCE = 200;
const REPLAYED_AT_ONCE = 8;

const listQuery = z.object({
  reason: z
    .string()
    .optional()
    .meta({ description: "Part of the reason, in any case." }),
  before: instant.optional(),
  after: instant.optional(),
  limit: pageSize(50),
  cursor: z
    .string()
    .regex(ENTRY_ID, "must be the nextCursor of an earlier answer")
    .optional(),
});

const replayRequest = z.object({
  filter: z
    .object({
      reason: z.string().optional(),
      endpointId: z.string().toLowerCase().optional(),
      webhookUrlOrigin: z
        .url("must be an origin, like https://hooks.example.com")
        .transform((url) => new URL(url).origin)
        .optional(),
      before: instant.optional(),
      after: instant.optional(),
    })
    .default({}),
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
  { deadLetters, resend, streamKey }: DeadLetterRoutes,
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
      const views = letters.map((letter) => deadLetterView(streamKey, letter));
      return reply.send({ status: "success", deadLetters: views, nextCursor });
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
      const outcome = await resend.replay(letter);
      if (!outcome.ok) return sendRefusal(reply, outcome.refusal);
      return reply
        .code(202)
        .send({ status: "success", delivery: outcome.value });
    },
  );

  async function replayAll(
    query: DeadLetterQuery,
    isDryRun: boolean,
  ): Promise<Omit<z.output<typeof bulkBody>, "status">> {
    const skipped: { entryId: string; error: string }[] = [];
    let count = 0;
    let cursor: string | undefined;
    do {
      const limit = Math.min(
        READ_AT_ONCE,
        query.limit - count - skipped.length,
      );
      const { letters, nextCursor } = await deadLetters.list({
        ...query,
        limit,
        cursor,
      });
      if (isDryRun) count += letters.length;
      else {
        const replay = async (
          { entryId }: { entryId: string },
          letter: (typeof letters)[number],
        ) => {
          const outcome = await resend.replay(letter);
          if (outcome.ok) count++;
          else skipped.push({ entryId, error: outcome.refusal.error });
        };
        for (let start = 0; start < letters.length; start += REPLAYED_AT_ONCE) {
          const group = letters.slice(start, start + REPLAYED_AT_ONCE);
          await Promise.all(group.map((letter) => replay(letter, letter)));
        }
      }
      cursor = nextCursor ?? undefined;
    } while (cursor !== undefined && count + skipped.length < query.limit);
    return { dryRun: isDryRun, count, skipped };
  }

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
