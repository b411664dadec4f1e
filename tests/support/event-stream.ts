import { setTimeout as sleep } from "node:timers/promises";
import { secretKeys } from "../../local/keys.ts";

export type ServerEvent = {
  event: string;
  id?: string;
  // deno-lint-ignore no-explicit-any
  data: any;
};

/** An answer that is read while it comes. */
export type EventStream = {
  status: number;
  headers: Headers;
  /** What has come so far. */
  text: () => string;
  events: () => ServerEvent[];
  /** Waits until `look` gives something other than undefined, false or null. */
  until: <T>(look: () => T) => Promise<NonNullable<T>>;
  /** Waits until the server has ended the stream. */
  end: () => Promise<void>;
  /** Goes away. */
  leave: () => void;
};

export async function openStream(url: string, headers: Record<string, string> = {}): Promise<EventStream> {
  const client = new AbortController();
  const response = await fetch(url, { headers: { apikey: secretKeys.default, ...headers }, signal: client.signal });
  let text = "";
  let hasEnded = false;
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) text += decoder.decode(chunk, { stream: true });
    hasEnded = true;
  })();
  reading.catch(() => {});
  return {
    status: response.status,
    headers: response.headers,
    text: () => text,
    events: () => parseEvents(text),
    until: async (look) => {
      for (;;) {
        const found = look();
        if (found) return found;
        if (hasEnded) throw new Error(`The stream has ended with:\n${text}`);
        await sleep(20);
      }
    },
    end: () => reading,
    leave: () => client.abort(),
  };
}

/** The events of a stream; what is only a comment or a setting is none. */
function parseEvents(text: string): ServerEvent[] {
  return text.split("\n\n").slice(0, -1).flatMap((block) => {
    const fields = Object.fromEntries(
      block.split("\n").map((line) => {
        const [, name, value] = /^(\w*): ?(.*)$/.exec(line)!;
        return [name, value];
      }),
    );
    return fields.event === undefined ? [] : [{ event: fields.event, id: fields.id, data: JSON.parse(fields.data!) }];
  });
}
