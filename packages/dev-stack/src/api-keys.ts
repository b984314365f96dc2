import { createHmac } from "node:crypto";

/** The secret that every local Supabase uses. It protects nothing but a development stack on loopback. */
export const localJwtSecret =
  "super-secret-jwt-token-with-at-least-32-characters-long";

/** A Supabase API key: an HS256 JWT that names the database role which PostgREST switches to. */
export function signApiKey(
  claims: { role: string; sub?: string },
  secret = localJwtSecret,
): string {
  const encode = (value: unknown) =>
    Buffer.from(JSON.stringify(value)).toString("base64url");
  const header = { alg: "HS256", typ: "JWT" };
  // Fixed times keep the keys the same from run to run.
  const times = { iat: 1_700_000_000, exp: 2_000_000_000 };
  const body = `${encode(header)}.${encode({ iss: "local", ...claims, ...times })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
