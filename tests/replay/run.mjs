// Replays recordings in WebAssembly: node run.mjs MODULE SEED FILE.. prints each file's digests.
import { readFileSync } from "node:fs";

const [module, seed, ...files] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(module));
const { alloc, replay, result, memory } = instance.exports;
for (const name of files) {
  const file = readFileSync(name);
  const place = alloc(file.length) >>> 0;
  new Uint8Array(memory.buffer, place, file.length).set(file);
  const length = replay(BigInt(seed)) >>> 0;
  // The memory may have grown, so its buffer is another.
  const text = new Uint8Array(memory.buffer, result() >>> 0, length);
  process.stdout.write(`${Buffer.from(text).toString("utf8")}\0`);
}
