// Server-sent events of a response, by hand: EventSource cannot send a body or a key.

import { asDropped } from "./server.js";

// The data of each event.
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await readPart(reader);
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = readData(block);
        if (data) yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}

async function readPart(reader) {
  try {
    return await reader.read();
  } catch (error) {
    throw asDropped(error);
  }
}

function readData(block) {
  const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}
