// Connects only to allowed addresses. The check sits in the connector because nothing outside it is safe: undici does not
// call a `lookup` option for address literals, however they are spelled, and an answer checked before connecting may
// differ from the one connected to.
import { lookup as dnsLookup, type LookupAddress } from "node:dns";
import { isIP } from "node:net";
import { buildConnector } from "undici";

export class BlockedAddressError extends Error {
  override readonly name = "BlockedAddressError";
}

export interface ConnectorOptions {
  connectTimeoutMs: number;
  isAllowed: (address: string) => boolean;
}

export function createGuardedConnector({
  connectTimeoutMs,
  isAllowed,
}: ConnectorOptions): buildConnector.connector {
  const connect = buildConnector({
    timeout: connectTimeoutMs,
    allowH2: false,
    lookup: (hostname, options, callback) => {
      dnsLookup(
        hostname,
        { ...options, all: true },
        (error, addresses: LookupAddress[]) => {
          if (error !== null) return callback(error, []);
          // One blocked address is enough, because we cannot tell which of them will be connected to.
          if (
            addresses.length === 0 ||
            addresses.some(({ address }) => !isAllowed(address))
          ) {
            return callback(
              new BlockedAddressError(
                `${hostname} resolves to an address that is not allowed`,
              ),
              [],
            );
          }
          const first = addresses[0]!;
          return options.all === true
            ? callback(null, addresses)
            : callback(null, first.address, first.family);
        },
      );
    },
  });

  return (options, callback) => {
    const host = options.hostname.replaceAll(/^\[|\]$/g, "");
    if (isIP(host) !== 0 && !isAllowed(host)) {
      callback(
        new BlockedAddressError(`the address ${host} is not allowed`),
        null,
      );
      return;
    }
    connect(options, (error, socket) => {
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
