// Supabase through supabase-js, which returns errors instead of throwing them: `unwrap` turns them into typed faults.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { Agent, request } from "undici";
import { type DatabaseError, databaseFault } from "./database-fault.ts";
import { type CallWithText, createCallWithText } from "./text-rpc.ts";

export type { SupabaseClient };

interface DatabaseReply<Data> {
  data: Data | null;
  error: DatabaseError | null;
  status: number;
}

export interface Database {
  client: SupabaseClient;
  callWithText: CallWithText;
  close: () => Promise<void>;
}

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
  // For a batch of 100 rows, undici's `fetch` costs more time than PostgREST itself; its `request` costs a third of that.
  const fetch = (async (input: string, init: RequestInit) => {
    const response = await request(input, {
      method: init.method as "GET",
      headers: Object.fromEntries(init.headers as Headers),
      body: (init.body as string | undefined) ?? null,
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
    // supabase-js would retry reads for up to 7 s; here the callers decide how long a request or a loop may wait.
    db: { retry: false },
  });
  const callWithText = createCallWithText({
    url,
    serviceRoleKey,
    timeoutMs,
    dispatcher,
  });
  return { client, callWithText, close: () => dispatcher.destroy() };
}

/** Resolves to the data of a reply; throws the `databaseFault` of an error. */
export async function unwrap<Data>(
  call: PromiseLike<DatabaseReply<Data>>,
): Promise<NonNullable<Data>> {
  const { data, error, status } = await call;
  if (error !== null) throw databaseFault(status, error);
  return data as NonNullable<Data>;
}

/** Whether Supabase answers and the schema is there. */
export async function pingDatabase(client: SupabaseClient): Promise<void> {
  await unwrap(client.from("webhook_deliveries").select("id").limit(1));
}
