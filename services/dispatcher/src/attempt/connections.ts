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

/** Those beyond are closed after their request, so that ever new origins do not use up the process's files. */
const MOST_IDLE_CONNECTIONS = 1024;

export function createConnections(
  connect: buildConnector.connector,
): Connections {
  const all = new Set<Connection>();
  const idle = new Map<string, Connection[]>();
  let idleCount = 0;
  let isClosed = false;

  function removeIdle(origin: string, connection: Connection): void {
    const ofOrigin = idle.get(origin);
    const index = ofOrigin?.indexOf(connection) ?? -1;
    if (ofOrigin === undefined || index === -1) return;
    ofOrigin.splice(index, 1);
    idleCount--;
    if (ofOrigin.length === 0) idle.delete(origin);
  }

  function open(origin: string): Connection {
    let watch: AnswerWatch | null = null;
    let isFresh = true;
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
        const isLost = watch === null || watch.socket.destroyed;
        if (isClosed || isLost || idleCount >= MOST_IDLE_CONNECTIONS) {
          connection.close();
          return;
        }
        isFresh = false;
        idleCount++;
        const ofOrigin = idle.get(origin);
        if (ofOrigin === undefined) idle.set(origin, [connection]);
        else ofOrigin.push(connection);
      },
      close: () => {
        all.delete(connection);
        removeIdle(origin, connection);
        void client.destroy();
      },
    };
    client.on("disconnect", () => {
      if (idle.get(origin)?.includes(connection) === true) connection.close();
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
