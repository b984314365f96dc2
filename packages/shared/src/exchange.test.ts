import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { Agent } from "undici";
import { expect, onTestFinished, test } from "vitest";
import { createExchange, errorIn } from "./exchange.ts";

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const ok: Answer = (response) => response.end("[]");
const reset: Answer = (_response, request) => request.socket.resetAndDestroy();
const cut: Answer = (response, request) => {
  response.writeHead(200, { "content-length": "100" }).write("[");
  setTimeout(() => request.socket.destroy(), 20);
};
const error =
  (status: number, code: string): Answer =>
  (response) =>
    response.writeHead(status).end(JSON.stringify({ code, message: "no" }));
const gateway: Answer = (response) =>
  response.writeHead(502).end("<html>Bad Gateway</html>");
const never: Answer = () => undefined;

/** A server that answers each call as the list says, and the last way from then on. */
async function setUp(answers: Answer[]) {
  let calls = 0;
  const server = createServer((request, response) => {
    const answer = answers[Math.min(calls++, answers.length - 1)]!;
    request.resume().on("end", () => answer(response, request));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const dispatcher = new Agent({ connections: 1 });
  onTestFinished(async () => {
    await dispatcher.destroy();
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const exchange = createExchange({ timeoutMs: 500, dispatcher });
  return {
    calls: () => calls,
    call: (path = "/rest/v1/rpc/create_deliveries") =>
      exchange({
        url: `http://127.0.0.1:${port}${path}`,
        method: "POST",
        headers: {},
        body: "[]",
      }),
  };
}

test.each([
  ["a reset connection", reset],
  ["an answer that is cut", cut],
  ["a gateway's 502", gateway],
  ["a server that is shutting down", error(500, "57P01")],
  ["PostgREST having lost its connection", error(503, "PGRST001")],
  ["PostgREST having no connection", error(503, "PGRST000")],
])("a call that meets %s is made once more", async (_, fault) => {
  const { call, calls } = await setUp([fault, ok]);
  expect(await call()).toMatchObject({ status: 200, text: "[]" });
  expect(calls()).toBe(2);
});

test("it is not made a third time, and says that it was not answered", async () => {
  const { call, calls } = await setUp([reset]);
  const { status, text } = await call();
  expect([status, errorIn(text).code]).toEqual([503, "NO_ANSWER"]);
  expect(calls()).toBe(2);
});

test.each([
  ["a lock timeout", error(500, "55P03")],
  ["a refusal", error(400, "22P02")],
  ["a missing function", error(404, "PGRST202")],
])("what the database answers is final: %s", async (_, answer) => {
  const { call, calls } = await setUp([answer]);
  expect((await call()).status).toBeGreaterThanOrEqual(400);
  expect(calls()).toBe(1);
});

test("a call that changes something else when it is repeated is not", async () => {
  const { call, calls } = await setUp([reset]);
  await call("/rest/v1/rpc/restart_delivery?select=id");
  expect(calls()).toBe(1);
});

test("the time limit covers the repetition", async () => {
  const { call, calls } = await setUp([gateway, never]);
  const startedAt = performance.now();
  const { text } = await call();
  expect(errorIn(text).code).toBe("NO_ANSWER");
  expect(performance.now() - startedAt).toBeLessThan(1500);
  expect(calls()).toBe(2);
});

test("nothing was sent where nobody listens", async () => {
  const dispatcher = new Agent();
  onTestFinished(() => dispatcher.destroy());
  const exchange = createExchange({ timeoutMs: 500, dispatcher });
  const url = "http://127.0.0.1:1/";
  const { text } = await exchange({
    url,
    method: "GET",
    headers: {},
    body: null,
  });
  expect(errorIn(text).code).toBe("NOT_SENT");
});

test.each(["null", '"text"', "<html>", '{"code":5,"message":{}}'])(
  "words that are no error of PostgREST's are kept as they are: %s",
  (text) => {
    expect(errorIn(text)).toEqual({ message: text });
  },
);
