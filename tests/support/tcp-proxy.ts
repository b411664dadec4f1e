import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A network between a client and a server, which can be cut. */
export type TcpProxy = {
  port: number;
  /** Ends every connection, and lets nobody in. */
  cut: () => void;
  /** Resets every connection, as a host does that knows nothing of them any more. */
  reset: () => void;
  mend: () => void;
  stop: () => Promise<void>;
};

export async function startTcpProxy(serverPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isCut = false;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  };
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((client) => {
    keep(client);
    if (isCut) return client.destroy();
    const upstream = connect(serverPort, "127.0.0.1");
    keep(upstream);
    client.pipe(upstream).pipe(client);
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    cut,
    reset: () => {
      isCut = true;
      for (const socket of sockets) socket.resetAndDestroy();
    },
    mend: () => isCut = false,
    stop: async () => {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}
