// A question, and its answer as it comes.

import { readEvents } from "./event_stream.js";
import { DroppedError, RefusedError, request } from "./server.js";

// `address`: the picture's; `exchanges`: earlier questions about it with their answers.
export function writeBody(address, exchanges, question, perception) {
  const messages = [];
  for (const exchange of exchanges) {
    messages.push({ role: "user", content: exchange.question });
    messages.push({ role: "assistant", content: exchange.text });
  }
  messages.push({ role: "user", content: question });
  messages[0].content = [
    { type: "image_url", image_url: { url: address } },
    { type: "text", text: messages[0].content },
  ];
  const body = { messages, stream: true, stream_options: { include_usage: true }, store: true };
  if (perception) body.perception = perception;
  return body;
}

// Gives each chunk to `hear`, as it comes. Throws RefusedError, DroppedError, or AbortError.
export async function ask(body, signal, hear) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of readEvents(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new RefusedError(response.status, chunk.error.message);
    hear(chunk);
  }
  throw new DroppedError();
}
