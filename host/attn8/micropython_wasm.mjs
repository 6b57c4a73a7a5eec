// Runs a script on the WebAssembly MicroPython, as the program `micropython` would:
//
//   node micropython_wasm.mjs LOADER HEAP_BYTES SCRIPT [ARGUMENT]...
//
// LOADER is the package's micropython.mjs. The working folder is copied to the emulated file system, where it is the
// working folder of the script; files that the script makes or changes are written back.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const HOME = "/workspace";
const MAIN = "/main.py";
const RESERVE_BYTES = 16384;

// The names begin with an underscore because they live beside those of the script. A heap that is full to the last
// block could not even hold the text of the MemoryError, and would hang: the list gives its blocks back before.
const wrapper = (name, args) => `
import sys as _sys
_sys.argv[:] = ${JSON.stringify([name, ...args])}
_reserve = [None] * ${RESERVE_BYTES / 4}
try:
    exec(compile(open("${MAIN}").read(), ${JSON.stringify(name)}, "exec"))
except BaseException:
    _reserve.clear()
    raise
`;

// This build never collects garbage while Python code runs; it takes more memory from the system instead. So memory
// must not grow, and what the system still has must be taken, for heapBytes to be all that a script gets.
function fixHeap(module, heapBytes) {
  WebAssembly.Memory.prototype.grow = () => {
    throw new RangeError("the heap is fixed");
  };
  const kept = module._malloc(heapBytes >> 2); // for the strings of calls; too small for another part of the heap
  while (module._malloc(heapBytes >> 1));
  module._free(kept);
}

function copyIn(fsys, folder, target, files) {
  fsys.mkdirTree(target);
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const [from, to] = [path.join(folder, entry.name), `${target}/${entry.name}`];
    if (entry.isDirectory()) {
      copyIn(fsys, from, to, files);
    } else {
      files.set(to, fs.readFileSync(from));
      fsys.writeFile(to, files.get(to));
    }
  }
}

function copyOut(fsys, source, folder, files) {
  for (const name of fsys.readdir(source).filter((name) => name !== "." && name !== "..")) {
    const [from, to] = [`${source}/${name}`, path.join(folder, name)];
    if (fsys.isDir(fsys.stat(from).mode)) {
      fs.mkdirSync(to, { recursive: true });
      copyOut(fsys, from, to, files);
    } else {
      const data = Buffer.from(fsys.readFile(from));
      if (!files.get(from)?.equals(data)) fs.writeFileSync(to, data);
    }
  }
}

// Returns the exit code that an exception stands for; its text goes to stderr unless it is a plain sys.exit.
function exitCode(error) {
  const text = error.name === "PythonError" ? error.message : String(error);
  if (error.type === "SystemExit") {
    const value = text.trimEnd().split("SystemExit:").pop().trim();
    if (/^(None)?$/.test(value)) return 0;
    if (/^-?\d+$/.test(value)) return Number(value) & 255;
  }
  process.stderr.write(text);
  return 1;
}

async function main([loader, heapBytes, script, ...args]) {
  console.error = () => {}; // the loader's; it tells of every time that memory was refused
  const { loadMicroPython } = await import(pathToFileURL(loader).href);
  const written = [];
  const mp = await loadMicroPython({
    heapsize: Number(heapBytes),
    linebuffer: false,
    stdout: (bytes) => written.push(...bytes),
  });
  const files = new Map();
  copyIn(mp.FS, ".", HOME, files);
  mp.FS.chdir(HOME);
  mp.FS.writeFile(MAIN, fs.readFileSync(script));
  fixHeap(mp._module, Number(heapBytes));
  try {
    mp.runPython(wrapper(path.basename(script), args));
  } catch (error) {
    process.exitCode = exitCode(error);
  }
  copyOut(mp.FS, HOME, ".", files);
  process.stdout.write(Buffer.from(written));
}

await main(process.argv.slice(2));
