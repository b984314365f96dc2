import { hasCode } from "@pipeline/shared/errors";
import { z } from "zod";
import {
  deliveryRequest,
  idempotencyKey,
} from "../../core/delivery-request.ts";
import {
  type Result,
  refuse,
  type Refusal,
  UNAVAILABLE,
} from "../../core/refusal.ts";
import type { Accepted, Intake } from "../../intake.ts";
import {
  errorBody,
  InvalidRequest,
  sendRefusal,
  toErrorBody,
  toIssues,
} from "../errors.ts";
import type { ApiServer } from "../typed-server.ts";

/** Room for a thousand ordinary leads; larger payloads need smaller batches. */
const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_ITEMS = 1000;

export interface SubmitRoutes {
  intake: Intake;
}

const receiptBody = z
  .object({
    status: z.literal("success"),
    delivery: z.object({
      id: z.uuid(),
      leadId: z.uuid().nullable(),
      webhookUrl: z
        .string()
        .nullable()
        .meta({ description: "The origin only." }),
      status: z.string(),
      attempt: z.int(),
    }),
  })
  .meta({ id: "Receipt" });

type ReceiptBody = z.output<typeof receiptBody>;

const batchRequest = z.object({
  deliveries: z
    .array(
      z.unknown().meta({ $ref: "#/components/schemas/DeliveryRequestInput" }),
    )
    .min(1, "must hold at least 1 delivery")
    .max(BATCH_ITEMS, `must hold at most ${BATCH_ITEMS} deliveries`),
});
const batchReceipt = z.object({
  status: z.literal("success"),
  deliveries: z
    .array(z.union([receiptBody, errorBody]))
    .meta({ description: "In the request's order." }),
});

const submitHeaders = z.object({
  "idempotency-key": idempotencyKey.optional(),
});

function toReceiptBody({ receipt }: Accepted): ReceiptBody {
  return { status: "success", delivery: receipt };
}

export function addSubmitRoutes(
  server: ApiServer,
  { intake }: SubmitRoutes,
): void {
  /** Turns a fault into a refusal, so that in a batch it concerns one item and not those already stored. */
  async function accept(
    request: z.output<typeof deliveryRequest>,
  ): Promise<Result<Accepted>> {
    try {
      return await intake.accept(request);
    } catch (error) {
      if (!hasCode(error, "DATABASE_UNAVAILABLE")) throw error;
      return { ok: false, refusal: UNAVAILABLE };
    }
  }

  server.post(
    "/",
    {
      schema: {
        summary: "Send a webhook",
        headers: submitHeaders,
        body: deliveryRequest,
        response: {
          202: receiptBody,
          200: receiptBody,
          "4xx": errorBody,
          503: errorBody,
        },
      },
    },
    async (request, reply) => {
      const header = request.headers["idempotency-key"];
      const key = request.body.idempotencyKey ?? header;
      if (header !== undefined && key !== header) {
        return sendRefusal(
          reply,
          refuse(
            422,
            "idempotencyKey",
            "differs from the header Idempotency-Key",
          ).refusal,
        );
      }
      const result = await accept(
        key === undefined
          ? request.body
          : { ...request.body, idempotencyKey: key },
      );
      if (!result.ok) return sendRefusal(reply, result.refusal);
      return reply
        .code(result.value.isNew ? 202 : 200)
        .send(toReceiptBody(result.value));
    },
  );

  async function acceptItem(item: unknown): Promise<Result<Accepted>> {
    const parsed = deliveryRequest.safeParse(item);
    if (parsed.success) return accept(parsed.data);
    const { message, issues } = new InvalidRequest(toIssues(parsed.error));
    return { ok: false, refusal: { status: 422, error: message, issues } };
  }

  server.post(
    "/batch",
    {
      bodyLimit: BATCH_BYTES,
      schema: {
        summary: "Send up to 1000 webhooks",
        description: `One bad item harms no other. The body may be ${BATCH_BYTES / 1024 / 1024} MiB, each payload 256 KiB.`,
        body: batchRequest,
        response: { 202: batchReceipt, "4xx": errorBody, 503: errorBody },
      },
    },
    async (request, reply) => {
      const results = await Promise.all(
        request.body.deliveries.map(acceptItem),
      );
      const unavailable = commonFault(results);
      if (unavailable !== null) return sendRefusal(reply, unavailable);
      const deliveries = results.map((result) =>
        result.ok
          ? toReceiptBody(result.value)
          : toErrorBody(result.refusal.error, result.refusal.issues),
      );
      return reply.code(202).send({ status: "success", deliveries });
    },
  );
}

/** The 503 that every item got, if they all did: then the whole batch may be sent again. */
function commonFault(results: Result<Accepted>[]): Refusal | null {
  const [first] = results;
  if (first === undefined || first.ok) return null;
  return results.every((result) => !result.ok && result.refusal.status === 503)
    ? first.refusal
    : null;
}
