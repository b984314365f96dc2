import { z } from "zod";
import {
  deliveryRequest,
  idempotencyKey,
  MAX_REQUEST_BYTES,
} from "../../core/delivery-request.ts";
import { elementTexts, memberText } from "../../core/exact-json.ts";
import { type Result, refuse, type Refusal } from "../../core/refusal.ts";
import { strictObject } from "../../core/strict-object.ts";
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

const batchRequest = strictObject({
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

const ITEM_TOO_LARGE: Refusal = {
  status: 413,
  error: `The delivery is too large: more than ${MAX_REQUEST_BYTES} bytes`,
  issues: [],
};

const KEY_OF_BATCH = refuse(
  422,
  "Idempotency-Key",
  "is for single requests; give every item of a batch an idempotencyKey of its own",
).refusal;

/** In bytes of UTF-8. */
function isLongerThan(text: string, bytes: number): boolean {
  if (text.length * 3 <= bytes) return false;
  return text.length > bytes || Buffer.byteLength(text) > bytes;
}

function toReceiptBody({ receipt }: Accepted): ReceiptBody {
  return { status: "success", delivery: receipt };
}

export function addSubmitRoutes(
  server: ApiServer,
  { intake }: SubmitRoutes,
): void {
  server.post(
    "/",
    {
      config: { keepsText: true },
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
      const { body, bodyText } = request;
      const result = await intake.accept(
        key === undefined ? body : { ...body, idempotencyKey: key },
        bodyText ?? undefined,
      );
      if (!result.ok) return sendRefusal(reply, result.refusal);
      return reply
        .code(result.value.isNew ? 202 : 200)
        .send(toReceiptBody(result.value));
    },
  );

  async function acceptItem(
    item: unknown,
    text: string | undefined,
  ): Promise<Result<Accepted>> {
    if (text !== undefined && isLongerThan(text, MAX_REQUEST_BYTES))
      return { ok: false, refusal: ITEM_TOO_LARGE };
    const parsed = deliveryRequest.safeParse(item);
    if (parsed.success) return intake.accept(parsed.data, text);
    const { message, issues } = new InvalidRequest(toIssues(parsed.error));
    return { ok: false, refusal: { status: 422, error: message, issues } };
  }

  server.post(
    "/batch",
    {
      bodyLimit: BATCH_BYTES,
      config: { keepsText: true },
      schema: {
        summary: "Send up to 1000 webhooks",
        description: `One bad item harms no other. The body may be ${BATCH_BYTES / 1024 / 1024} MiB, each payload 256 KiB. Idempotency keys are the items' own: \`idempotencyKey\`, not the header.`,
        body: batchRequest,
        response: { 202: batchReceipt, "4xx": errorBody, 503: errorBody },
      },
    },
    async (request, reply) => {
      if (request.headers["idempotency-key"] !== undefined)
        return sendRefusal(reply, KEY_OF_BATCH);
      const { bodyText, body } = request;
      const texts = elementTexts(
        memberText(bodyText ?? "", "deliveries") ?? "",
      );
      const results = await Promise.all(
        body.deliveries.map((item, index) => acceptItem(item, texts[index])),
      );
      const fault = commonFault(results);
      if (fault !== null) return sendRefusal(reply, fault);
      const deliveries = results.map((result) =>
        result.ok
          ? toReceiptBody(result.value)
          : toErrorBody(result.refusal.error, result.refusal.issues),
      );
      return reply.code(202).send({ status: "success", deliveries });
    },
  );
}

/** The fault that every item met, if they all did: then the whole batch may be sent again. */
function commonFault(results: Result<Accepted>[]): Refusal | null {
  const [first] = results;
  if (first === undefined || first.ok) return null;
  return results.every((result) => !result.ok && result.refusal.status >= 500)
    ? first.refusal
    : null;
}
