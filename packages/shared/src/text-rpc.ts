// Calls database functions whose only argument is a long text. PostgREST passes a body of type text/plain unparsed to a
// function with one unnamed text parameter. supabase-js can send only JSON bodies, and encoding a batch as a JSON string
// and decoding it there would take 8 µs per delivery, so these calls are plain POSTs.
import { databaseFault } from "./database-fault.ts";
import { type Exchange, errorIn } from "./exchange.ts";

/** Throws as `unwrap` does. Idempotent if the database function is. */
export type CallWithText = <Data>(name: string, text: string) => Promise<Data>;

export interface TextRpcOptions {
  /** Supabase's URL, without `/rest/v1`. */
  url: string;
  serviceRoleKey: string;
  exchange: Exchange;
}

export function createCallWithText({
  url,
  serviceRoleKey,
  exchange,
}: TextRpcOptions): CallWithText {
  const base = `${url.replace(/\/+$/, "")}/rest/v1/rpc/`;
  const headers = {
    apikey: serviceRoleKey,
    authorization: `Bearer ${serviceRoleKey}`,
    "content-type": "text/plain",
    accept: "application/json",
  };

  return async <Data>(name: string, text: string): Promise<Data> => {
    const { status, text: answer } = await exchange({
      url: base + name,
      method: "POST",
      headers,
      body: text,
    });
    if (status >= 400) throw databaseFault(status, errorIn(answer));
    try {
      return (answer === "" ? null : JSON.parse(answer)) as Data;
    } catch {
      // Somebody else's page under a status of success: whether PostgREST was asked is not known.
      throw databaseFault(502, { message: answer });
    }
  };
}
