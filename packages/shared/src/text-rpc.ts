// Calls database functions whose only argument is a long text. PostgREST passes a body of type text/plain unparsed to a
// function with one unnamed text parameter. supabase-js can send only JSON bodies, and encoding a batch as a JSON string
// and decoding it there would take 8 µs per delivery, so these calls are plain POSTs.
import { type Dispatcher, request } from "undici";
import { type DatabaseError, databaseFault } from "./database-fault.ts";

/** Throws as `unwrap` does. Idempotent if the database function is. */
export type CallWithText = <Data>(name: string, text: string) => Promise<Data>;

export interface TextRpcOptions {
  /** Supabase's URL, without `/rest/v1`. */
  url: string;
  serviceRoleKey: string;
  timeoutMs: number;
  dispatcher: Dispatcher;
}

function parseError(body: string): DatabaseError {
  try {
    const { message, code } = JSON.parse(body) as Partial<DatabaseError>;
    return { message: message ?? body, code };
  } catch {
    return { message: body }; // an error page of a gateway
  }
}

export function createCallWithText({
  url,
  serviceRoleKey,
  timeoutMs,
  dispatcher,
}: TextRpcOptions): CallWithText {
  const base = `${url.replace(/\/+$/, "")}/rest/v1/rpc/`;
  const headers = {
    apikey: serviceRoleKey,
    authorization: `Bearer ${serviceRoleKey}`,
    "content-type": "text/plain",
    accept: "application/json",
  };

  async function post(path: string, body: string) {
    try {
      const response = await request(base + path, {
        method: "POST",
        headers,
        body,
        dispatcher,
        signal: AbortSignal.timeout(timeoutMs),
      });
      return {
        status: response.statusCode,
        answer: await response.body.text(),
      };
    } catch (error) {
      throw databaseFault(0, { message: String(error) });
    }
  }

  return async <Data>(name: string, text: string): Promise<Data> => {
    const { status, answer } = await post(name, text);
    if (status >= 400) throw databaseFault(status, parseError(answer));
    return (answer === "" ? null : JSON.parse(answer)) as Data;
  };
}
