// Supabase through supabase-js, which returns errors instead of throwing them: `unwrap` turns them into typed faults.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { Agent } from "undici";
import { type DatabaseError, databaseFault } from "./database-fault.ts";
import { createExchange } from "./exchange.ts";
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

/** `timeoutMs` bounds each call, including its wait for one of the `connections`. */
export function createDatabase(
  url: string,
  serviceRoleKey: string,
  timeoutMs: number,
  connections = 8,
): Database {
  const dispatcher = new Agent({
    connections,
    keepAliveTimeout: 30_000,
    connect: { timeout: 3000 },
  });
  const exchange = createExchange({ timeoutMs, dispatcher });
  const fetch = (async (url: string, init: RequestInit) => {
    const { status, headers, text } = await exchange({
      url,
      method: init.method ?? "GET",
      headers: Object.fromEntries(init.headers as Headers),
      body: (init.body as string | undefined) ?? null,
    });
    return new Response(text === "" ? null : text, { status, headers });
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
    exchange,
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

const NIL_UUID = "00000000-0000-0000-0000-000000000000";

/** Whether Supabase answers and the schema is there. Looks for an id: "any row" may be behind a million deleted ones. */
export async function pingDatabase(client: SupabaseClient): Promise<void> {
  await unwrap(
    client.from("webhook_deliveries").select("id").eq("id", NIL_UUID),
  );
}
