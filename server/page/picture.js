// A picture as a person gives it: its pixels to show, its address to send.

const MOST_PIXELS = 20e6;
const MOST_BYTES = 10e6;
const LONGEST_SIDE = 4096; // of a picture that has more than that
const QUALITY = 0.93;

// Throws Error for a file that is not a picture.
export async function openPicture(file, name = file.name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // upright by the file's EXIF, as the server has it
  } catch {
    throw new Error("That file is not a picture that this browser can open.");
  }
  if (isPlain(file, bitmap)) return { bitmap, address: await readAddress(file), name };
  const blob = await redraw(bitmap);
  return { bitmap: await createImageBitmap(blob), address: await readAddress(blob), name };
}

// Whether the server takes the file as it is.
function isPlain(file, bitmap) {
  if (!["image/png", "image/jpeg"].includes(file.type)) return false;
  return file.size <= MOST_BYTES && bitmap.width * bitmap.height <= MOST_PIXELS;
}

async function redraw(bitmap) {
  const longest = Math.max(bitmap.width, bitmap.height);
  const isLarge = bitmap.width * bitmap.height > MOST_PIXELS;
  const scale = isLarge ? Math.min(1, LONGEST_SIDE / longest) : 1;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  drawBitmap(canvas, bitmap);
  return encodeCanvas(canvas);
}

function drawBitmap(canvas, bitmap) {
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
}

export function showBitmap(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  drawBitmap(canvas, bitmap);
  canvas.closest("figure").style.setProperty("--ratio", bitmap.width / bitmap.height);
}

export function encodeCanvas(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

export function readAddress(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("That file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

// A small copy, as an address.
export function shrink(bitmap, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const across = bitmap.width * scale;
  const down = bitmap.height * scale;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, (width - across) / 2, (height - down) / 2, across, down);
  return canvas.toDataURL("image/jpeg", 0.8);
}
