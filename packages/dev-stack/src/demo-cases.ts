/** What the demo sends, and what should happen to it. The report compares that with the database and the receiver. */
export interface DemoCase {
  title: string;
  /** A path at the receiver, or a whole URL elsewhere. */
  target: string;
  /** How it is queued: through the API as a stored lead, as a payload or as the sample lead, or with redis-cli. */
  via: "lead" | "payload" | "test" | "xadd";
  format?: "zapier" | "makecom" | "convertkit";
  secret?: string;
  expected: {
    status: "success" | "failed";
    /** The status that the receiver sends to each request, in order. */
    answers: number[];
    /** Rows in webhook_delivery_logs. An attempt that sends nothing has a row but no answer. */
    attempts: number;
    errorType?: "http" | "timeout" | "blocked";
    /** What the receiver's Retry-After asks for, if that is longer than the schedule's delay. */
    retryAfterSeconds?: number;
  };
}

const plain = "a secret in plain words";
// Standard Webhooks secrets are base64 after this prefix.
const standard = `whsec_${Buffer.from("demo-demo-demo-demo-demo").toString("base64")}`;

export const receiverSecrets = { plain, standard };

const success = (...answers: number[]): DemoCase["expected"] => ({
  status: "success",
  answers,
  attempts: answers.length,
});
const failure = (
  answers: number[],
  errorType: "http" | "timeout" = "http",
): DemoCase["expected"] => ({
  status: "failed",
  answers,
  attempts: answers.length,
  errorType,
});

export const demoCases: DemoCase[] = [
  {
    title: "lead as it is",
    target: "/ok",
    via: "lead",
    secret: plain,
    expected: success(200),
  },
  {
    title: "lead for Zapier",
    target: "/ok",
    via: "lead",
    format: "zapier",
    secret: standard,
    expected: success(200),
  },
  {
    title: "lead for Make.com",
    target: "/ok",
    via: "lead",
    format: "makecom",
    secret: plain,
    expected: success(200),
  },
  {
    title: "lead for ConvertKit",
    target: "/ok",
    via: "lead",
    format: "convertkit",
    secret: plain,
    expected: success(200),
  },
  {
    title: "sample lead, slow",
    target: "/slow?ms=700",
    via: "test",
    secret: plain,
    expected: success(200),
  },
  {
    title: "any JSON, unsigned",
    target: "/ok",
    via: "payload",
    expected: success(200),
  },
  {
    title: "redis-cli XADD",
    target: "/ok",
    via: "xadd",
    secret: plain,
    expected: success(200),
  },
  {
    title: "fails twice",
    target: "/flaky?fail=2",
    via: "lead",
    secret: standard,
    expected: success(500, 500, 200),
  },
  {
    title: "asks to wait 4 s",
    target: "/429?after=4",
    via: "lead",
    secret: plain,
    expected: { ...success(429, 200), retryAfterSeconds: 4 },
  },
  {
    title: "5 MB answer",
    target: "/big",
    via: "lead",
    secret: plain,
    expected: success(200),
  },
  {
    title: "always broken",
    target: "/500",
    via: "lead",
    secret: plain,
    expected: failure([500, 500, 500, 500]),
  },
  {
    title: "endless answer",
    target: "/drip",
    via: "payload",
    secret: plain,
    expected: success(200),
  },
  {
    title: "no such hook",
    target: "/404",
    via: "lead",
    secret: plain,
    expected: failure([404]),
  },
  {
    title: "hook was removed",
    target: "/410",
    via: "payload",
    secret: plain,
    expected: failure([410]),
  },
  {
    title: "redirects",
    target: "/redirect",
    via: "payload",
    secret: plain,
    expected: failure([302]),
  },
  {
    title: "cloud metadata URL",
    target: "http://169.254.169.254/latest/meta-data",
    via: "payload",
    expected: {
      status: "failed",
      answers: [],
      attempts: 1,
      errorType: "blocked",
    },
  },
];

export const titleWidth = Math.max(
  ...demoCases.map(({ title }) => title.length),
);
