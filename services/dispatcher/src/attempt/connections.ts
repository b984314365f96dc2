// Connections to receivers, each with one request at a time. They are kept here rather than by undici's Agent because its
// pools do not tell which connection a request gets, and whether that connection was used before.
import { Client } from "undici";
import type { buildConnector } from "undici";
import {
  type AnswerWatch,
  LONGEST_HEAD_BYTES,
  watchAnswers,
} from "./answer-watch.ts";

export interface Connection {
  client: Client;
  /** Null until there is a socket. */
  watch: () => AnswerWatch | null;
  /** Whether the socket was opened since the connection was taken. */
  isFresh: () => boolean;
  /** For another request. */
  release: () => void;
  close: () => void;
}

export interface Connections {
  /** One that is idle, if there is one. */
  take: (origin: string) => Connection;
  /** A new one, which connects when it is given a request. */
  open: (origin: string) => Connection;
  closeAll: () => Promise<void>;
}

/** Beyond that the one that has been idle longest goes, so that ever new origins do not use up the process's files. */
const MOST_IDLE_CONNECTIONS = 1024;

export function createConnections(
  connect: buildConnector.connector,
): Connections {
  const all = new Set<Connection>();
  /** By origin, the one released last at the end; likewise the connections of each. */
  const idle = new Map<string, Connection[]>();
  let idleCount = 0;
  let isClosed = false;

  function addIdle(origin: string, connection: Connection): void {
    const ofOrigin = idle.get(origin) ?? [];
    ofOrigin.push(connection);
    idle.delete(origin);
    idle.set(origin, ofOrigin);
    idleCount++;
    if (idleCount <= MOST_IDLE_CONNECTIONS) return;
    const [oldest] = idle.values();
    oldest?.[0]?.close();
  }

  function removeIdle(origin: string, connection: Connection): void {
    const ofOrigin = idle.get(origin);
    const index = ofOrigin?.lastIndexOf(connection) ?? -1;
    if (ofOrigin === undefined || index === -1) return;
    ofOrigin.splice(index, 1);
    idleCount--;
    if (ofOrigin.length === 0) idle.delete(origin);
  }

  function open(origin: string): Connection {
    let watch: AnswerWatch | null = null;
    let isFresh = true;
    let isVacant = false;
    const client = new Client(origin, {
      allowH2: false,
      pipelining: 1,
      maxHeaderSize: LONGEST_HEAD_BYTES,
      // The attempt's own deadline covers all of it; undici's timers are coarse.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (options, callback) => {
        isFresh = true;
        connect(options, (...[error, socket]) => {
          if (error !== null) return callback(error, null);
          watch = watchAnswers(socket);
          callback(null, socket);
        });
      },
    });
    const connection: Connection = {
      client,
      watch: () => watch,
      isFresh: () => isFresh,
      release: () => {
        if (isClosed) return connection.close();
        isFresh = false;
        // A receiver that closes after each answer leaves a client that connects anew; another one would cost 40 us more.
        isVacant = watch?.socket.destroyed ?? true;
        addIdle(origin, connection);
      },
      close: () => {
        all.delete(connection);
        removeIdle(origin, connection);
        void client.destroy();
      },
    };
    client.on("disconnect", () => {
      const isIdle = idle.get(origin)?.includes(connection) ?? false;
      if (isIdle && !isVacant) connection.close();
    });
    all.add(connection);
    if (isClosed) connection.close();
    return connection;
  }

  return {
    open,
    take: (origin) => {
      // The one used last is the least likely to have been closed at the other end.
      const connection = idle.get(origin)?.at(-1);
      if (connection === undefined) return open(origin);
      removeIdle(origin, connection);
      return connection;
    },
    closeAll: async () => {
      isClosed = true;
      idle.clear();
      idleCount = 0;
      const clients = [...all].map(({ client }) => client);
      all.clear();
      await Promise.all(clients.map((client) => client.destroy()));
    },
  };
}
