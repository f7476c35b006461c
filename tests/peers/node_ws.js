// The npm package ws as a client of the echo and chat examples. Usage: node node_ws.js ECHO CHAT FOLDER_OF_WS
'use strict';
const { spawn } = require('child_process');
const { once } = require('events');
const path = require('path');
const fs = require('fs');

const [echoProgram, chatProgram, folder] = process.argv.slice(2);
const WebSocket = require(path.resolve(folder));
const version = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'))).version;
const MIB = 1 << 20;
let made = 0, failed = 0;

function check(name, good, detail = '') {
  made++;
  if (good) return;
  failed++;
  console.log('FAILED ws ' + version + ': ' + name + ' ' + String(detail).slice(0, 300));
}

const same = (name, found, wanted) => check(name, JSON.stringify(found) === JSON.stringify(wanted),
  'found ' + JSON.stringify(found) + ', wanted ' + JSON.stringify(wanted));

// Every wait is for an event, and ends after a time.
function soon(promise, seconds = 30) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error('waited in vain')), seconds * 1000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class Server {
  constructor(program, port = 0) {
    this.text = '';
    this.child = spawn(program, [String(port)], { stdio: ['pipe', 'ignore', 'pipe'] });
    this.exit = once(this.child, 'exit');
    process.on('exit', () => this.child.kill('SIGKILL'));
    this.child.stderr.setEncoding('utf8');
    this.listening = new Promise(resolve => this.child.stderr.on('data', part => {
      this.text += part;
      const found = /listening on \w+:\/\/[\w.]+:(\d+)\//.exec(this.text);
      if (found) resolve(this.port = Number(found[1]));
    }));
  }
  static async start(program, port) {
    const server = new Server(program, port);
    await soon(server.listening);
    return server;
  }
  async end() {
    this.child.kill('SIGTERM');
    return (await soon(this.exit))[0];
  }
}

// A client whose events wait in lists until they are asked for.
class Client {
  static async open(server, options = { perMessageDeflate: false }) {
    const client = new Client();
    client.ws = new WebSocket('ws://127.0.0.1:' + server.port + '/', options);
    client.got = { message: [], pong: [] };
    client.asked = { message: [], pong: [] };
    client.closed = new Promise(resolve => client.ws.on('close', (code, reason) => resolve([code, reason.toString()])));
    client.ws.on('error', () => {}); // a close follows
    client.ws.on('message', (data, binary) => client.put('message', binary ? data : data.toString()));
    client.ws.on('pong', data => client.put('pong', data.toString('hex')));
    await soon(once(client.ws, 'open'));
    return client;
  }
  put(kind, item) {
    const asked = this.asked[kind].shift();
    if (asked) asked(item); else this.got[kind].push(item);
  }
  next(kind = 'message') {
    if (this.got[kind].length) return this.got[kind].shift();
    return soon(new Promise(resolve => this.asked[kind].push(resolve)));
  }
  async echoes(message) {
    this.ws.send(message);
    const back = await this.next();
    return typeof message === 'string' ? back === message : Buffer.isBuffer(back) && back.equals(message);
  }
  write(bytes) { this.ws._socket.write(bytes); } // past the sender, which makes no broken frames
  ended() { return soon(this.closed); }
  async close(code, reason) {
    this.ws.close(code, reason);
    return this.ended();
  }
}

function frame(first, payload) { // masked with zeros; short payloads only
  return Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

async function typed(server) {
  const client = await Client.open(server);
  const texts = { text: 'hello', empty: '', NUL: 'a\0b', 'byte order mark': '\ufeffx', noncharacters: '\ufffe\uffff\ufdd0',
    'one to four bytes a character': 'aZ\u00e9\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}'.repeat(50) };
  for (const [name, text] of Object.entries(texts)) check('echo of text: ' + name, await client.echoes(text));
  for (const size of [0, 1, 125, 126, 127, 65535, 65536, 65537]) check('echo of ' + size + ' bytes', await client.echoes(Buffer.alloc(size, 'x\xffz')));
  check('1 MiB of text', await client.echoes('\u00fc\u{1f600}xy'.repeat(MIB / 8)));
  check('16 MiB', await client.echoes(Buffer.alloc(16 * MIB, 'sixteen')));
  check('64 MiB, the limit', await client.echoes(Buffer.alloc(64 * MIB, 'sixty-four')));
  same('nothing was negotiated', [client.ws.extensions, client.ws.protocol], ['', '']);
  same('close', (await client.close(1000))[0], 1000);
  const compressing = await Client.open(server, { perMessageDeflate: true });
  check('an offer to compress is declined', compressing.ws.extensions === '' && await compressing.echoes('plain'));
  await compressing.close(1000);
  const asking = new WebSocket('ws://127.0.0.1:' + server.port + '/', ['soap', 'wamp']);
  const [why] = await soon(once(asking, 'error'));
  same('a subprotocol is not made up', why.message, 'Server sent no subprotocol');
}

async function fragments(server) {
  const client = await Client.open(server);
  const text = '\u00fc\u20ac\u{1f600}'.repeat(100), bytes = Buffer.from(text);
  for (let i = 0; i < bytes.length; i++) client.ws.send(bytes.subarray(i, i + 1), { binary: false, fin: false });
  client.ws.send(Buffer.alloc(0), { binary: false, fin: true });
  same('text in frames of one byte', await client.next(), text);
  const block = Buffer.alloc(16384, '0123456789abcdef');
  for (let i = 0; i < 64; i++) client.ws.send(block, { binary: true, fin: i === 63 });
  check('1 MiB in 64 frames', (await client.next()).equals(Buffer.alloc(MIB, block)));
  client.ws.send('a', { fin: false });
  client.ws.ping('between');
  same('a ping between fragments is answered before their end', await client.next('pong'), Buffer.from('between').toString('hex'));
  client.ws.send('b', { fin: true });
  same('and the message is whole', await client.next(), 'ab');
  const dribbled = frame(0x81, Buffer.from('byte by byte \u00fc'));
  client.ws._socket.setNoDelay(true);
  for (const byte of dribbled) await new Promise(done => client.ws._socket.write(Buffer.from([byte]), done));
  same('a frame in pieces of one byte', await client.next(), 'byte by byte \u00fc');
  await client.close(1000);
}

async function pings(server) {
  const client = await Client.open(server);
  for (const payload of [Buffer.alloc(0), Buffer.alloc(125, 'x'), Buffer.from([0, 255, 128])]) {
    client.ws.ping(payload);
    same('pong of ' + payload.length + ' bytes', await client.next('pong'), payload.toString('hex'));
  }
  client.ws.pong('nobody asked');
  check('a pong that nobody asked for', await client.echoes('still here'));
  await client.close(1000);
}

async function closes(server) {
  for (const [code, reason] of [[1000, ''], [1000, 'done'], [1001, 'away'], [3000, 'registered'], [4999, 'gr\u00fc\u00dfe \u{1f600}'], [4000, 'r'.repeat(123)]]) {
    const client = await Client.open(server);
    same('client closes with ' + code + ', answered by its code alone', await client.close(code, reason), [code, '']);
  }
  const bare = await Client.open(server);
  same('client closes without a code', (await bare.close())[0], 1005);
  const busy = await Client.open(server);
  for (let i = 0; i < 200; i++) busy.ws.send('m' + i);
  same('close after 200 messages', (await busy.close(1000))[0], 1000);
  same('what came before the close is echoed', busy.got.message, Array.from({ length: 200 }, (_, i) => 'm' + i));
  const gone = await Client.open(server);
  gone.ws.terminate();
  same('a client that vanishes', (await gone.ended())[0], 1006);
}

async function refusals(server) {
  const broken = (name, code, ...frames) => Client.open(server).then(async client => {
    for (const bytes of frames) client.write(bytes);
    same(name, (await client.ended())[0], code);
  });
  const bytes = (...list) => Buffer.from(list);
  await broken('invalid UTF-8: overlong', 1007, frame(0x81, bytes(0xc0, 0x80)));
  await broken('invalid UTF-8: surrogate', 1007, frame(0x81, bytes(0xed, 0xa0, 0x80)));
  await broken('invalid UTF-8: cut', 1007, frame(0x81, bytes(0x61, 0xe2, 0x82)));
  await broken('invalid UTF-8: over fragments', 1007, frame(0x01, bytes(0xe2)), frame(0x80, bytes(0x41)));
  await broken('invalid UTF-8: in a reason', 1007, frame(0x88, bytes(3, 232, 255)));
  await broken('reserved bit', 1002, frame(0xc1, bytes(0x61)));
  await broken('reserved opcode', 1002, frame(0x83, bytes()));
  await broken('no mask', 1002, bytes(0x81, 0));
  await broken('ping of 126 bytes', 1002, Buffer.concat([bytes(0x89, 0xfe, 0, 126, 0, 0, 0, 0), Buffer.alloc(126)]));
  await broken('a message in too many frames', 1008,
    Buffer.concat([frame(0x01, bytes(0x61)), ...Array(1200).fill(frame(0x00, bytes(0x61)))]));
  await broken('ping in fragments', 1002, frame(0x09, bytes()));
  await broken('continuation of nothing', 1002, frame(0x80, bytes(0x61)));
  await broken('text inside a message', 1002, frame(0x01, bytes(0x61)), frame(0x81, bytes(0x62)));
  await broken('half a close code', 1002, frame(0x88, bytes(3)));
  await broken('close code 1006', 1002, frame(0x88, bytes(3, 238)));
  await broken('length with its top bit set', 1002, bytes(0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const large = await Client.open(server);
  for (let i = 0; i < 64; i++) large.ws.send(Buffer.alloc(MIB), { fin: false });
  large.ws.send('x', { fin: true });
  same('one byte beyond 64 MiB, in fragments', (await large.ended())[0], 1009);
  const whole = await Client.open(server);
  whole.ws.send(Buffer.alloc(64 * MIB + 1));
  // The server reads no further than the head: who still sends then may see the reset before the Close.
  check('one byte beyond 64 MiB, in one frame', [1009, 1006].includes((await whole.ended())[0]));
}

async function many(server) {
  const clients = await Promise.all(Array.from({ length: 100 }, () => Client.open(server)));
  let good = true;
  for (let round = 0; round < 10; round++) {
    const results = await Promise.all(clients.map((client, i) => client.echoes(round + ' of ' + i)));
    good = good && results.every(Boolean);
  }
  check('100 connections, 10 messages each', good);
  const codes = await Promise.all(clients.map(client => client.close(1000)));
  check('100 closes', codes.every(([code]) => code === 1000));
}

async function restart() {
  const first = await Server.start(echoProgram);
  const client = await Client.open(first);
  const ending = first.end();
  same('the server stops', (await client.ended())[0], 1001);
  same('its exit status', await ending, 0);
  const next = await Server.start(echoProgram, first.port);
  const again = await Client.open(next);
  check('connected to the next server on the same port', await again.echoes('again'));
  await again.close(1000);
  same('exit status of the second', await next.end(), 0);
}

async function chat() {
  const server = await Server.start(chatProgram);
  const clients = [await Client.open(server), await Client.open(server)];
  for (const client of clients) same('hello', JSON.parse(await client.next()), { __MESSAGE__: 'hello' });
  const said = { __MESSAGE__: 'message', text: 'gr\u00fc\u00dfe \u{1f600} "\\\n\0', list: [1, -0.0025, null, true, { a: {} }] };
  clients[0].ws.send(JSON.stringify(said));
  same('typed message', JSON.parse(await clients[0].next()), said);
  for (const other of ['{"__MESSAGE__":"nobody"}', '[1]', '{', '', '{"a":1}', '{"__MESSAGE__":7}']) clients[0].ws.send(other);
  const large = { __MESSAGE__: 'message', text: 'x'.repeat(MIB) };
  clients[0].ws.send(JSON.stringify(large));
  check('what has no handler is ignored, 1 MiB comes back', await clients[0].next() === JSON.stringify(large));
  server.child.stdin.write('a line \u00e9\n');
  for (const client of clients) same('a line typed at the server', JSON.parse(await client.next()), { __MESSAGE__: 'userInput', input: 'a line \u00e9' });
  const frame = '{"__MESSAGE__":"message","text":"' + 'x'.repeat(16 * MIB - 34) + '"}';
  clients[0].ws.send(frame);
  check('16 MiB and one byte', frame.length === 16 * MIB + 1 && [1009, 1006].includes((await clients[0].ended())[0]));
  same('close of a chat', await clients[1].close(4999, 'bye'), [4999, '']);
  same('exit status of chat', await server.end(), 0);
}

async function main() {
  const server = await Server.start(echoProgram);
  try {
    for (const part of [typed, fragments, pings, closes, refusals, many]) await part(server);
  } finally {
    same('exit status of echo', await server.end(), 0);
  }
  await restart();
  await chat();
}

main().catch(why => check('no wait is in vain', false, why.stack)).then(() => {
  console.log('ws ' + version + ': ' + made + ' checks, ' + (made - failed) + ' passed');
  process.exit(failed || !made ? 1 : 0);
});
