// Requests to ingest's API.
const TIMEOUT_MS = 15_000;

/** What the tests look at in an answer; the routes decide which of it is there. */
export interface Answer {
  status: string;
  error: string;
  issues: { path: string; message: string }[];
  delivery: Record<string, unknown> & { id: string };
  deliveries: Answer[] & { id: string }[];
  deadLetters: { entryId: string; deliveryId: string; reason: string }[];
  total: number;
  nextCursor: string | null;
  count: number;
  skipped: { entryId: string; error: string }[];
  queue: Record<string, number>;
  outcomes: Record<string, number>;
}

export interface Reply {
  status: number;
  headers: Headers;
  body: Answer;
}

export const apiOf = (origin: string) => `${origin}/api/webhook-delivery`;

/** A text is sent as it is, anything else as JSON. */
export async function send(
  url: string,
  method: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    ...(body !== undefined && {
      body: typeof body === "string" ? body : JSON.stringify(body),
    }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Answer,
  };
}
