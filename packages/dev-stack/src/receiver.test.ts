import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkSignature, startReceiver, type Receiver } from "./receiver.ts";

// The example of the Standard Webhooks specification (secret, id, body), signed there for this timestamp.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const specificationBody = '{"test": 2432232314}';
const specificationTimestamp = "1614265330";
const specificationSignature =
  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

function sign(
  body: string,
  options: { key: Buffer; timestamp?: string },
): Record<string, string> {
  const timestamp = options.timestamp ?? String(Math.floor(Date.now() / 1000));
  const signature = createHmac("sha256", options.key)
    .update(`${id}.${timestamp}.${body}`)
    .digest("base64");
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signature}`,
  };
}

describe("checkSignature", () => {
  const body = Buffer.from('{"name":"Zoë"}');
  const key = Buffer.from(secret.slice("whsec_".length), "base64");

  test("computes what the specification's example computes", () => {
    expect(
      sign(specificationBody, { key, timestamp: specificationTimestamp })[
        "webhook-signature"
      ],
    ).toBe(specificationSignature);
  });

  test("accepts a whsec_ secret as base64 and any other as its UTF-8 bytes", () => {
    expect(checkSignature(sign(body.toString(), { key }), body, secret)).toBe(
      "valid",
    );
    expect(
      checkSignature(
        sign(body.toString(), { key: Buffer.from("påss") }),
        body,
        "påss",
      ),
    ).toBe("valid");
  });

  test("accepts one right signature among several", () => {
    const headers = sign(body.toString(), { key });
    headers["webhook-signature"] =
      `v1,AAAA v2,xyz ${headers["webhook-signature"]}`;
    expect(checkSignature(headers, body, secret)).toBe("valid");
  });

  test.each([
    [
      "another body",
      (headers: Record<string, string>) => headers,
      Buffer.from("{}"),
    ],
    [
      "another id",
      (headers: Record<string, string>) => ({
        ...headers,
        "webhook-id": "msg_2",
      }),
      body,
    ],
    [
      "another timestamp",
      (headers: Record<string, string>) => ({
        ...headers,
        "webhook-timestamp": "1614265330",
      }),
      body,
    ],
    [
      "no version",
      (headers: Record<string, string>) => ({
        ...headers,
        "webhook-signature": headers["webhook-signature"]?.slice(3) ?? "",
      }),
      body,
    ],
    [
      "a wrong older header beside it",
      (headers: Record<string, string>) => ({
        ...headers,
        "x-webhook-signature": "00",
      }),
      body,
    ],
  ])("refuses %s", (_what, change, received) => {
    expect(
      checkSignature(change(sign(body.toString(), { key })), received, secret),
    ).toBe("invalid");
  });

  test("refuses an old timestamp even if it is signed correctly", () => {
    const timestamp = String(Math.floor(Date.now() / 1000) - 600);
    expect(
      checkSignature(sign(body.toString(), { key, timestamp }), body, secret),
    ).toBe("invalid");
  });

  test("checks the older hex header against the body alone, with the secret as it is written", () => {
    for (const written of ["plain", secret]) {
      const hex = createHmac("sha256", written).update(body).digest("hex");
      const headers = { "x-webhook-signature": hex };
      expect(checkSignature(headers, body, written)).toBe("valid");
      expect(checkSignature(headers, body, "other")).toBe("invalid");
    }
  });

  test("calls a request without a signature unsigned", () => {
    expect(checkSignature({ "webhook-id": id }, body, secret)).toBe("unsigned");
  });
});

describe("receiver", () => {
  let receiver: Receiver;
  beforeEach(async () => {
    receiver = await startReceiver({ secret: "s" });
  });
  afterEach(() => receiver.close());

  const post = (path: string, webhookId = "d1") =>
    fetch(receiver.url + path, {
      method: "POST",
      headers: { "webhook-id": webhookId },
      body: "{}",
      redirect: "manual",
    });

  test("fails as often as asked for each webhook-id, and then succeeds", async () => {
    const statuses = [];
    for (const webhookId of ["d1", "d1", "d2", "d1"])
      statuses.push((await post("/flaky?fail=2", webhookId)).status);
    expect(statuses).toEqual([500, 500, 500, 200]);
  });

  test("answers 429 with Retry-After once", async () => {
    const first = await post("/429?after=7");
    expect([
      first.status,
      first.headers.get("retry-after"),
      (await post("/429?after=7")).status,
    ]).toEqual([429, "7", 200]);
  });

  test.each([
    ["/ok", 200],
    ["/500", 500],
    ["/404", 404],
    ["/410", 410],
    ["/redirect", 302],
    ["/slow?ms=20", 200],
    ["/nonsense", 404],
  ])("answers %s with %i", async (path, status) => {
    expect((await post(path)).status).toBe(status);
  });

  test("answers 401 to a wrong signature, even on /ok", async () => {
    const response = await fetch(`${receiver.url}/ok`, {
      method: "POST",
      headers: { "webhook-signature": "v1,x" },
      body: "{}",
    });
    expect(response.status).toBe(401);
  });

  test("remembers every request and shows them over HTTP", async () => {
    await post("/ok?x=1");
    const shown = await (await fetch(`${receiver.url}/_requests`)).json();
    expect(shown).toMatchObject([
      {
        webhookId: "d1",
        path: "/ok?x=1",
        body: "{}",
        statusSent: 200,
        signature: "unsigned",
      },
    ]);
    expect(shown).toEqual(receiver.requests);
  });
});
