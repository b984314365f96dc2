// Supabase through supabase-js. It never throws, so faults are told apart here.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { Agent, request } from "undici";
import { PipelineError } from "./errors.ts";

export type { SupabaseClient };

interface DatabaseReply<Data> {
  data: Data | null;
  error: { message: string; details?: string | null; code?: string } | null;
  status: number;
}

/**
 * Codes that blame the rows: data exceptions, broken constraints, limits, `raise`, JSON that PostgREST cannot read. Anything
 * else (no connection, a timeout, a missing function or grant, a wrong key) blames the moment or the set-up, and is worth
 * another try: taking it for a refusal would throw good records away.
 */
const REFUSALS = /^(22\w{3}|23\w{3}|54\w{3}|P0001|PGRST102)$/;

/** A refusal may quote the value that was refused, however long. */
const LONGEST_MESSAGE = 300;

export interface Database {
  client: SupabaseClient;
  /**
   * Calls a function of one unnamed text parameter; PostgREST hands text/plain through unread. Throws as `unwrap` does.
   * Idempotent where the function is.
   */
  callWithText: CallWithText;
  close: () => Promise<void>;
}

export type CallWithText = <Data>(name: string, text: string) => Promise<Data>;

/** `timeoutMs` bounds each call. */
export function createDatabase(
  url: string,
  serviceRoleKey: string,
  timeoutMs: number,
): Database {
  const dispatcher = new Agent({
    connections: 8,
    keepAliveTimeout: 30_000,
    connect: { timeout: 3000 },
  });
  // supabase-js writes a body as JSON. A long text stays here instead and its key is the body: writing it as a JSON string and
  // reading that back would take 8 µs per delivery.
  const texts = new Map<string, string>();
  let calls = 0;
  // For a batch of 100 rows, undici's fetch costs more than PostgREST's part in it; its request costs a third of that.
  const fetch = (async (input: string, init: RequestInit) => {
    const given = (init.body as string | undefined) ?? null;
    const text = given === null ? undefined : texts.get(given);
    const headers = Object.fromEntries(init.headers as Headers);
    if (text !== undefined) headers["content-type"] = "text/plain";
    const response = await request(input, {
      method: init.method as "GET",
      headers,
      body: text ?? given,
      dispatcher,
      signal: AbortSignal.timeout(timeoutMs),
    });
    const answer = await response.body.text();
    return new Response(answer === "" ? null : answer, {
      status: response.statusCode,
      headers: response.headers as Record<string, string>,
    });
  }) as unknown as typeof globalThis.fetch;
  const client = createClient(url, serviceRoleKey, {
    auth: {
      persistSession: false,
      autoRefreshToken: false,
      detectSessionInUrl: false,
    },
    global: { fetch },
    // Its own retries of reads wait up to 7 s; the callers decide how long a request or a loop may wait.
    db: { retry: false },
  });
  const callWithText: CallWithText = async (name, text) => {
    const key = `text ${++calls}`;
    const body = JSON.stringify(key);
    texts.set(body, text);
    try {
      return await unwrap(client.rpc(name, key));
    } finally {
      texts.delete(body);
    }
  };
  return { client, callWithText, close: () => dispatcher.destroy() };
}

/**
 * The data of a reply. Throws DATABASE_UNAVAILABLE when the same call may work later, DATABASE_REFUSED when it never will.
 * The message keeps the database's own words but not its `details`, which quote row values.
 */
export async function unwrap<Data>(
  call: PromiseLike<DatabaseReply<Data>>,
): Promise<NonNullable<Data>> {
  const { data, error, status } = await call;
  if (error === null) return data as NonNullable<Data>;
  const hint =
    status === 401 || status === 403
      ? " (is SUPABASE_SERVICE_ROLE_KEY the service role's?)"
      : "";
  throw new PipelineError(
    REFUSALS.test(error.code ?? "")
      ? "DATABASE_REFUSED"
      : "DATABASE_UNAVAILABLE",
    `Supabase answered ${status} ${error.code ?? ""}: ${error.message.slice(0, LONGEST_MESSAGE)}${hint}`.replaceAll(
      /\s+/g,
      " ",
    ),
  );
}

/** Whether Supabase answers and the schema is there. */
export async function pingDatabase(client: SupabaseClient): Promise<void> {
  await unwrap(client.from("webhook_deliveries").select("id").limit(1));
}
