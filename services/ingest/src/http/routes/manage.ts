import { uuidOf } from "@pipeline/shared/entries";
import { z } from "zod";
import type { DeliveryWrites } from "../../adapters/delivery-rows.ts";
import type { Queue } from "../../adapters/queue.ts";
import { deliverySummary } from "../../core/delivery-view.ts";
import { refuse } from "../../core/refusal.ts";
import type { Resend } from "../../resend.ts";
import { errorBody, sendRefusal } from "../errors.ts";
import { summaryBody } from "../schemas.ts";
import type { ApiServer } from "../typed-server.ts";

export interface ManageRoutes {
  resend: Resend;
  writes: Pick<DeliveryWrites, "cancel">;
  queue: Pick<Queue, "cancel">;
}

const params = z.object({ id: z.string() });
const deliveryBody = z.object({
  status: z.literal("success"),
  delivery: summaryBody,
});
const UNKNOWN = refuse(404, "id", "is not a known delivery").refusal;

export function addManageRoutes(
  server: ApiServer,
  { resend, writes, queue }: ManageRoutes,
): void {
  server.post(
    "/:id/retry",
    {
      schema: {
        summary: "Send a delivery again, now",
        description:
          "Under the same webhook-id; the retry schedule starts over and the attempt numbers go on.",
        params,
        response: { 202: deliveryBody, "4xx": errorBody, 503: errorBody },
      },
    },
    async (request, reply) => {
      const id = uuidOf(request.params.id);
      if (id === null) return sendRefusal(reply, UNKNOWN);
      const result = await resend.retry(id);
      if (!result.ok) return sendRefusal(reply, result.refusal);
      return reply
        .code(202)
        .send({ status: "success", delivery: deliverySummary(result.value) });
    },
  );

  server.delete(
    "/:id",
    {
      schema: {
        summary: "Cancel a delivery that is not finished",
        params,
        response: { 200: deliveryBody, "4xx": errorBody, 503: errorBody },
      },
    },
    async (request, reply) => {
      const id = uuidOf(request.params.id);
      if (id === null) return sendRefusal(reply, UNKNOWN);
      // The queue first: a delivery that is cancelled only in Postgres would still be sent.
      const result = await queue.cancel(id);
      if (result !== "cancelled") {
        const message =
          result === "in_flight"
            ? "An attempt is running; try again when it is over"
            : "The outcome of the last attempt is on its way to the database; try again";
        return sendRefusal(reply, {
          ...refuse(409, "", message).refusal,
          retryAfterSeconds: 1,
        });
      }
      const row = await writes.cancel(id);
      if (row === null) return sendRefusal(reply, UNKNOWN);
      if (row.status !== "cancelled") {
        return sendRefusal(
          reply,
          refuse(409, "", `The delivery is finished: ${row.status}`).refusal,
        );
      }
      return reply.send({ status: "success", delivery: deliverySummary(row) });
    },
  );
}
