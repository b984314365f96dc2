import { uuidOf } from "@pipeline/shared/entries";
import { z } from "zod";
import type { Cancel } from "../../cancel.ts";
import { deliverySummary } from "../../core/delivery-view.ts";
import { refuse } from "../../core/refusal.ts";
import type { Resend } from "../../resend.ts";
import { errorBody, sendRefusal } from "../errors.ts";
import { summaryBody } from "../schemas.ts";
import type { ApiServer } from "../typed-server.ts";

export interface ManageRoutes {
  resend: Resend;
  cancel: Cancel;
}

const params = z.object({ id: z.string() });
const deliveryBody = z.object({
  status: z.literal("success"),
  delivery: summaryBody,
});
const UNKNOWN = refuse(404, "id", "is not a known delivery").refusal;

export function addManageRoutes(
  server: ApiServer,
  { resend, cancel }: ManageRoutes,
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
      const result = await cancel(id);
      if (!result.ok) return sendRefusal(reply, result.refusal);
      return reply.send({
        status: "success",
        delivery: deliverySummary(result.value),
      });
    },
  );
}
