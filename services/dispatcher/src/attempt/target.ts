// Where an attempt goes and with what: the endpoint's present settings, or the entry's own if it names no known endpoint.
import { parseCustomHeaders } from "@pipeline/shared/custom-headers";
import { type Delivery, isHttpUrl } from "@pipeline/shared/entries";
import { hasCode } from "@pipeline/shared/errors";
import type { Sealer } from "@pipeline/shared/seal";
import { secretFault } from "@pipeline/shared/signing-secret";
import type { Endpoints } from "./endpoints.ts";

export type Target =
  | {
      kind: "target";
      url: string;
      secret: string | null;
      headers: Record<string, string>;
    }
  | { kind: "invalid"; error: string }
  /** Supabase is away and the entry does not know its endpoint's URL. */
  | { kind: "unknown" };

/** As the entry or the endpoint has them, sealed or plain. */
interface Settings {
  url: string;
  secret: string | null;
  headers: string | null;
}

const invalid = (error: string) => ({ kind: "invalid", error }) as const;

export function createFindTarget(endpoints: Endpoints, sealer: Sealer) {
  async function settingsOf(
    delivery: Delivery,
  ): Promise<Settings | Exclude<Target, { kind: "target" }>> {
    const { webhookUrl, endpointId, secret, headers } = delivery;
    const own =
      webhookUrl === null ? null : { url: webhookUrl, secret, headers };
    if (endpointId === null) return own ?? { kind: "unknown" };
    try {
      const endpoint = await endpoints.find(endpointId);
      if (endpoint === null)
        return own ?? invalid("endpoint_id: there is no such endpoint");
      if (!endpoint.isActive)
        return invalid("endpoint_id: the endpoint is disabled");
      if (isHttpUrl(endpoint.url)) return endpoint;
      return invalid(
        "endpoint_id: the endpoint's url must be an http or https URL without credentials",
      );
    } catch (error) {
      if (!hasCode(error, "DATABASE_UNAVAILABLE", "DATABASE_REFUSED"))
        throw error;
      return own ?? { kind: "unknown" };
    }
  }

  return async (delivery: Delivery): Promise<Target> => {
    const settings = await settingsOf(delivery);
    if ("kind" in settings) return settings;
    const { url } = settings;
    const secret =
      settings.secret === null ? null : sealer.open(settings.secret);
    if (settings.secret !== null && secret === null)
      return invalid("secret: was not sealed with this WEBHOOK_ENCRYPTION_KEY");
    const fault = secret === null ? null : secretFault(secret);
    if (fault !== null) return invalid(`secret: ${fault}`);
    const headers =
      settings.headers === null ? null : sealer.open(settings.headers);
    if (settings.headers !== null && headers === null)
      return invalid(
        "headers: were not sealed with this WEBHOOK_ENCRYPTION_KEY",
      );
    const custom = parseCustomHeaders(headers);
    if (!custom.ok) return invalid(custom.error);
    return { kind: "target", url, secret, headers: custom.headers };
  };
}
