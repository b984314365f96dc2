// .env.example and docker-compose.yml against the schemas that the services read their environment with.
import { readFileSync } from "node:fs";
import { signApiKey } from "@pipeline/dev-stack/api-keys";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { describe, expect, test } from "vitest";
import { environment as dispatcher } from "../../services/dispatcher/src/config.ts";
import { environment as ingest } from "../../services/ingest/src/config.ts";
import { configSchema as retryScheduler } from "../../services/retry-scheduler/src/config.ts";

const schemas = { ingest, dispatcher, "retry-scheduler": retryScheduler };
const services = Object.keys(schemas) as (keyof typeof schemas)[];
const COMPOSE_ONLY = "docker-compose.yml only";

/** Other names of a variable; readEnvironment knows them, the schemas do not. */
const aliases = ["SUPABASE_URL", "SUPABASE_SECRET_KEY"];

const required = {
  REDIS_URL: "redis://localhost:6379",
  NEXT_PUBLIC_SUPABASE_URL: "https://project.supabase.co",
  SUPABASE_SERVICE_ROLE_KEY: "key",
  WEBHOOK_ENCRYPTION_KEY: Buffer.alloc(32).toString("base64"),
};

interface Line {
  section: string;
  name: string;
  value: string;
  isCommentedOut: boolean;
}

const example = readFileSync(`${repositoryRoot}.env.example`, "utf8");
const compose = readFileSync(`${repositoryRoot}docker-compose.yml`, "utf8");
const lines = parse(example);

function parse(text: string): Line[] {
  let section = "";
  return text.split("\n").flatMap((line) => {
    section = /^## (.+)/.exec(line)?.[1] ?? section;
    const [, hash, name, value] = /^(# )?([A-Z_]+)=(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) return [];
    return [{ section, name, value, isCommentedOut: hash !== undefined }];
  });
}

function linesFor(service: string): Line[] {
  return lines.filter(
    ({ section }) =>
      section === "all services" || section.split(", ").includes(service),
  );
}

/** The text of one service in docker-compose.yml, together with the environment that all of them have. */
function composeBlock(service: string): string {
  const common = /^x-service-environment:.*\n(?: .*\n)+/m.exec(compose)?.[0];
  const own = new RegExp(
    String.raw`^  ${service}:\n(?:    .*\n|\n)+`,
    "m",
  ).exec(compose)?.[0];
  if (common === undefined || own === undefined)
    throw new Error(`docker-compose.yml has no ${service} as expected`);
  return common + own;
}

describe.each(services)("the environment of %s", (service) => {
  const schema = schemas[service];

  test("is listed in .env.example, and nothing else is listed for it", () => {
    const names = linesFor(service).map(({ name }) => name);
    expect(names.toSorted()).toEqual(
      [...Object.keys(schema.shape), ...aliases].toSorted(),
    );
  });

  test("has those variables commented out that have a default, with that default", () => {
    const ofService = linesFor(service);
    const setOnes = ofService.filter(({ isCommentedOut }) => !isCommentedOut);
    expect(setOnes.map(({ name }) => name)).toEqual(Object.keys(required));

    const withDefault = ofService.filter(
      ({ isCommentedOut, value }) => isCommentedOut && value !== "",
    );
    for (const { name, value } of withDefault) {
      expect({ [name]: schema.parse({ ...required, [name]: value }) }).toEqual({
        [name]: schema.parse(required),
      });
    }
  });

  test("shows an empty value only where there is no other", () => {
    const empty = linesFor(service).filter(
      ({ name, value }) => value === "" && !aliases.includes(name),
    );
    const withoutDefault = new Set([
      "NEXT_PUBLIC_SUPABASE_URL",
      "SUPABASE_SERVICE_ROLE_KEY",
      "WEBHOOK_ENCRYPTION_KEY",
      "HOST",
      "INGEST_API_KEYS",
      "ALLOW_PRIVATE_NETWORKS",
      "DNS_SERVERS",
    ]);
    expect(empty.filter(({ name }) => !withoutDefault.has(name))).toEqual([]);
  });

  test("can be set through docker-compose.yml", () => {
    const inContainer = new Set(["PORT", "HOST", "METRICS_PORT"]);
    const missing = linesFor(service)
      .map(({ name }) => name)
      .filter((name) => !inContainer.has(name))
      .filter(
        (name) =>
          !new RegExp(String.raw`^\s+${name}:`, "m").test(
            composeBlock(service),
          ),
      );
    expect(missing).toEqual([]);
  });
});

test("every section of .env.example is for somebody", () => {
  const known = new Set([...services, "all services", COMPOSE_ONLY]);
  const named = lines.flatMap(({ section }) => section.split(", "));
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});

test("what .env.example shows as docker-compose.yml's defaults is what stands there", () => {
  const interpolated = Object.fromEntries(
    Array.from(compose.matchAll(/\$\{([A-Z_]+):-([^}]*)\}/g), (match) => [
      match[1],
      match[2],
    ]),
  );
  const shown = lines.filter(({ section }) => section === COMPOSE_ONLY);
  for (const { name, value } of shown)
    expect({ [name]: interpolated[name] }).toEqual({ [name]: value });
  const listed = new Set(lines.map(({ name }) => name));
  expect(Object.keys(interpolated).filter((name) => !listed.has(name))).toEqual(
    [],
  );
});

test("the development key in docker-compose.yml is signed with the secret beside it", () => {
  const secret = /JWT_SECRET:-([^}]+)\}/.exec(compose)?.[1];
  expect(compose).toContain(
    `SUPABASE_SERVICE_ROLE_KEY:-${signApiKey({ role: "service_role" }, secret)}}`,
  );
});
