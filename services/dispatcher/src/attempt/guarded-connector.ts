// Connects only to allowed addresses. The check sits in the connector because nothing outside it is safe: undici does not
// call a `lookup` option for address literals, however they are spelled, and an answer checked before connecting may
// differ from the one connected to.
import { isIP, type LookupFunction } from "node:net";
import { callbackify } from "node:util";
import { buildConnector } from "undici";
import type { Resolver } from "../dns/resolver.ts";

export class BlockedAddressError extends Error {
  override readonly name = "BlockedAddressError";
}

export interface ConnectorOptions {
  connectTimeoutMs: number;
  isAllowed: (address: string) => boolean;
  resolver: Resolver;
}

/** A dot at the end makes a name absolute in DNS; certificates and SNI have names without it (RFC 6066 §3). */
const serverNameOf = (hostname: string) => hostname.replace(/\.$/, "");

export function createGuardedConnector({
  connectTimeoutMs,
  isAllowed,
  resolver,
}: ConnectorOptions): buildConnector.connector {
  async function allowedAddresses(hostname: string) {
    const addresses = await resolver.lookup(hostname);
    // One blocked address is enough, because we cannot tell which of them will be connected to.
    if (!addresses.every(isAllowed)) {
      throw new BlockedAddressError(
        `${hostname} resolves to an address that is not allowed`,
      );
    }
    return addresses.map((address) => ({ address, family: isIP(address) }));
  }

  const findAddresses = callbackify(allowedAddresses);

  const lookup: LookupFunction = (hostname, { all }, callback) => {
    findAddresses(hostname, (error, addresses) => {
      if (error !== null) return callback(error, []);
      const first = addresses[0]!;
      return all === true
        ? callback(null, addresses)
        : callback(null, first.address, first.family);
    });
  };
  const connect = buildConnector({
    timeout: connectTimeoutMs,
    allowH2: false,
    lookup,
  });

  return (options, callback) => {
    const host = options.hostname.replaceAll(/^\[|\]$/g, "");
    const isName = isIP(host) === 0;
    if (!isName && !isAllowed(host)) {
      callback(
        new BlockedAddressError(`the address ${host} is not allowed`),
        null,
      );
      return;
    }
    const target =
      isName && options.protocol === "https:"
        ? { ...options, servername: serverNameOf(host) }
        : options;
    connect(target, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null);
      } else if (socket.remoteAddress === undefined) {
        socket.destroy();
        callback(new Error("the connection was closed at once"), null);
      } else if (isAllowed(socket.remoteAddress)) {
        callback(null, socket);
      } else {
        socket.destroy();
        callback(
          new BlockedAddressError(
            "the connection led to an address that is not allowed",
          ),
          null,
        );
      }
    });
  };
}
