import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A network between a client and a server, which can be cut. */
export type TcpProxy = {
  port: number;
  /** Ends every connection, and lets nobody in. */
  cut: () => void;
  /** Resets every connection, as a host does that knows nothing of them any more. */
  reset: () => void;
  /** Swallows what comes from either side, of new connections too; the ends of connections as well. */
  swallow: () => void;
  /** Swallows for ever what comes on the connections that there are; new ones are as ever. */
  forget: () => void;
  /** Lets everybody in again, and lets through what was swallowed, which both sides send again until it arrives. */
  mend: () => void;
  stop: () => Promise<void>;
};

type Connection = { client: Socket; upstream: Socket; isForgotten: boolean };

export async function startTcpProxy(serverPort: number): Promise<TcpProxy> {
  const connections = new Set<Connection>();
  let isCut = false;
  let isSwallowing = false;

  const pass = ({ client, upstream }: Connection) => {
    client.pipe(upstream).pipe(client);
    if (client.destroyed) upstream.destroy();
    if (upstream.destroyed) client.destroy();
  };
  const hold = ({ client, upstream }: Connection) => {
    client.unpipe(upstream);
    upstream.unpipe(client);
  };
  const keep = (connection: Connection, socket: Socket, other: Socket) => {
    socket.on("error", () => {}).on("close", () => {
      if (isCut || !isSwallowing && !connection.isForgotten) other.destroy();
      if (socket.destroyed && other.destroyed) connections.delete(connection);
    });
  };
  const end = (how: "destroy" | "resetAndDestroy") => {
    isCut = true;
    for (const { client, upstream } of connections) {
      client[how]();
      upstream[how]();
    }
  };
  const server = createServer((client) => {
    if (isCut) return client.destroy();
    const connection = { client, upstream: connect(serverPort, "127.0.0.1"), isForgotten: false };
    connections.add(connection);
    keep(connection, client, connection.upstream);
    keep(connection, connection.upstream, client);
    if (!isSwallowing) pass(connection);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    cut: () => end("destroy"),
    reset: () => end("resetAndDestroy"),
    swallow: () => {
      isSwallowing = true;
      connections.forEach(hold);
    },
    forget: () => {
      for (const connection of connections) {
        connection.isForgotten = true;
        hold(connection);
      }
    },
    mend: () => {
      isCut = false;
      isSwallowing = false;
      for (const connection of connections) if (!connection.isForgotten) pass(connection);
    },
    stop: async () => {
      end("destroy");
      server.close();
      await once(server, "close");
    },
  };
}
