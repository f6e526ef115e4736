// Prints what NAME_test.c prints, of NAME.wasm: node run_wasm.mjs NAME
import { readFileSync } from "node:fs";
const name = process.argv[2];
const { instance } = await WebAssembly.instantiate(readFileSync(`${name}.wasm`));
const e = instance.exports;
const [stateSize, workSize, saved] = new Uint32Array(e.memory.buffer, e[`${name}_sizes`].value, 4);
const state = (e.__heap_base.value + 15) & ~15, work = state + stateSize + 16, bytes = work + workSize + 16;
const missing = bytes + saved - e.memory.buffer.byteLength;
if (missing > 0) e.memory.grow(Math.ceil(missing / 65536));
const worst = e[`${name}_self_test`](state, work);
e[`${name}_save`](state, bytes);
let hash = 2166136261;
for (const byte of new Uint8Array(e.memory.buffer, bytes, saved)) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
const shown = Math.trunc(worst * 1e9);
console.log(`worst ${shown} e-9, hash ${hash.toString(16).padStart(8, "0")}, state ${stateSize}, work ${workSize}`);
