import { createHmac } from "node:crypto";

/** The secret every local Supabase uses; it protects nothing but a loopback development stack. */
export const localJwtSecret =
  "super-secret-jwt-token-with-at-least-32-characters-long";

/** A Supabase API key: an HS256 JWT whose `role` PostgREST switches to. */
export function signApiKey(
  claims: { role: string; sub?: string },
  secret = localJwtSecret,
): string {
  const encode = (value: unknown) =>
    Buffer.from(JSON.stringify(value)).toString("base64url");
  // Fixed instants keep the keys the same from run to run; the expiry is that of Supabase's own local keys.
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ iss: "local", ...claims, iat: 1_700_000_000, exp: 2_000_000_000 })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
