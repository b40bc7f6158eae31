// Requests to the server that this page came from, with the key that a person gave.

const KEY = "vpt-key";

// The server answered, but not with what was asked for.
export class RefusedError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }
}

// There was no answer, or only the beginning of one.
export class DroppedError extends Error {
  constructor() {
    super("The connection to the server was lost.");
  }
}

export function saveKey(key) {
  sessionStorage.setItem(KEY, key);
}

export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw asDropped(error);
  }
  if (!response.ok) throw await readRefusal(response);
  return response;
}

// What fetch and its streams throw; a person's own stop stays what it is.
export function asDropped(error) {
  if (error.name === "AbortError") return error;
  return new DroppedError();
}

async function readRefusal(response) {
  let message = `The server answered with status ${response.status}.`;
  try {
    const body = await response.json();
    message = body.error.message ?? message;
  } catch {
    // not in the shape of an error: the status says what there is to say
  }
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  return new RefusedError(response.status, message, Number.isFinite(seconds) ? seconds : null);
}
