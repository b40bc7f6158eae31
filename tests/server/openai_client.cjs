// Asks the server whose address is given in the way that is named, and prints what came as JSON.
const { OpenAI } = require("openai");

const [, , address, way, body] = process.argv;
const client = new OpenAI({ baseURL: address, apiKey: "none", maxRetries: 0 });
const request = JSON.parse(body);

const ways = {
  async completion() {
    const completion = await client.chat.completions.create(request);
    return { completion, id: completion._request_id };
  },

  async stream() {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      chunks.push(chunk);
    }
    return { chunks };
  },

  async helper() {
    const stream = client.chat.completions.stream(request);
    return { content: await stream.finalContent(), usage: await stream.totalUsage() };
  },

  async abort() {
    const controller = new AbortController();
    const { signal } = controller;
    let count = 0;
    try {
      for await (const _ of await client.chat.completions.create({ ...request, stream: true }, { signal })) {
        count += 1;
        if (count === 3) controller.abort();
      }
    } catch (error) {
      return { error: error.constructor.name, count };
    }
    return { count };
  },

  async error() {
    try {
      await client.chat.completions.create(request);
    } catch (error) {
      const { status, code, param, type, message, requestID } = error;
      const isBadRequest = error instanceof OpenAI.BadRequestError;
      return { isBadRequest, status, code, param, type, message, requestID };
    }
    return {};
  },
};

ways[way]().then((result) => console.log(JSON.stringify(result)));
