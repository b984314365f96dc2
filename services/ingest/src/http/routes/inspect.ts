import { uuidOf } from "@pipeline/shared/entries";
import { z } from "zod";
import type { DeliveryReads } from "../../adapters/delivery-rows.ts";
import type { Queue } from "../../adapters/queue.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { deliveryDetail, deliverySummary } from "../../core/delivery-view.ts";
import { refuse } from "../../core/refusal.ts";
import { strictObject } from "../../core/strict-object.ts";
import { errorBody, sendRefusal } from "../errors.ts";
import {
  after,
  before,
  pageSize,
  STATUSES,
  summaryBody,
  uuid,
} from "../schemas.ts";
import type { ApiServer } from "../typed-server.ts";

export interface InspectRoutes {
  reads: DeliveryReads;
  queue: Pick<Queue, "counts">;
}

const listQuery = strictObject({
  deliveryId: uuid.optional(),
  leadId: uuid.optional(),
  endpointId: uuid.optional(),
  status: z.enum(STATUSES, `must be one of ${STATUSES.join(", ")}`).optional(),
  before: before.optional().meta({ description: "Created before this." }),
  after: after.optional().meta({ description: "Created after this." }),
  limit: pageSize(50),
  cursor: z
    .string()
    .transform((text, context) => {
      const cursor = decodeCursor(text);
      if (cursor !== null) return cursor;
      context.addIssue({
        code: "custom",
        message: "must be the nextCursor of an earlier answer",
      });
      return z.NEVER;
    })
    .optional(),
});

const detailBody = summaryBody
  .extend({
    responseBody: z.string().nullable(),
    payload: z.unknown(),
    attempts: z.array(
      z.object({
        attemptNumber: z.int(),
        attemptedAt: z.string(),
        durationMs: z.int().nullable(),
        responseStatus: z.int().nullable(),
        responseBody: z.string().nullable(),
        responseHeaders: z.unknown(),
        error: z.string().nullable(),
        errorType: z.string().nullable(),
        willRetry: z.boolean(),
        retryAt: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: "DeliveryDetail" });

const counts = <Name extends string>(names: readonly Name[]) =>
  z.record(z.enum(names), z.int());

const statsBody = z.object({
  status: z.literal("success"),
  queue: counts([
    "waiting",
    "waitingForShare",
    "inFlight",
    "retries",
    "dead",
    "unrecorded",
  ]),
  outcomes: counts(STATUSES),
  last24Hours: counts(STATUSES),
});

export function addInspectRoutes(
  server: ApiServer,
  { reads, queue }: InspectRoutes,
): void {
  server.get(
    "/",
    {
      schema: {
        summary: "List deliveries, newest first",
        querystring: listQuery,
        response: {
          200: z.object({
            status: z.literal("success"),
            deliveries: z.array(summaryBody),
            total: z.int().meta({
              description:
                "All deliveries of the filter, not only this page's. Exact up to 10,000.",
            }),
            more: z
              .boolean()
              .meta({ description: "Whether there are more than `total`." }),
            nextCursor: z.string().nullable(),
          }),
          "4xx": errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const { limit, cursor, ...filter } = request.query;
      const { rows, total, more } = await reads.list(
        filter,
        limit + 1,
        cursor ?? null,
      );
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      return reply.send({
        status: "success",
        deliveries: page.map(deliverySummary),
        total,
        more,
        nextCursor:
          last === undefined
            ? null
            : encodeCursor({ createdAt: last.created_at, id: last.id }),
      });
    },
  );

  server.get(
    "/stats",
    {
      schema: {
        summary: "Count what is queued and how deliveries ended",
        response: { 200: statsBody, 503: errorBody },
      },
    },
    async (_request, reply) => {
      const [waiting, rows] = await Promise.all([
        queue.counts(),
        reads.stats(),
      ]);
      const outcomes = Object.fromEntries(
        STATUSES.map((status) => [status, 0]),
      );
      const last24Hours = { ...outcomes };
      for (const row of rows) {
        outcomes[row.status] = row.total;
        last24Hours[row.status] = row.last_24_hours;
      }
      return reply.send({
        status: "success",
        queue: waiting,
        outcomes,
        last24Hours,
      });
    },
  );

  server.get(
    "/:id",
    {
      schema: {
        summary: "Show a delivery with its attempts",
        params: z.object({ id: z.string() }),
        response: {
          200: z.object({ status: z.literal("success"), delivery: detailBody }),
          404: errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const id = uuidOf(request.params.id);
      const row = id === null ? null : await reads.find(id);
      if (row === null)
        return sendRefusal(
          reply,
          refuse(404, "id", "is not a known delivery").refusal,
        );
      return reply.send({ status: "success", delivery: deliveryDetail(row) });
    },
  );
}
