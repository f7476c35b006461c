// What the Receiver of Node's ws makes of byte streams. Usage: node differ_ws.js FOLDER_OF_WS STREAMS
// STREAMS holds, for each stream, its length in four bytes and its bytes. One line of JSON comes out for each: the
// messages, the pings and the close code, or null where it waits for more.
'use strict';
const { createHash } = require('crypto');
const fs = require('fs');
const path = require('path');

const [folder, file] = process.argv.slice(2);
const Receiver = require(path.resolve(folder, 'lib', 'receiver.js'));
const digest = data => data.length + ':' + createHash('sha1').update(data).digest('hex').slice(0, 12);

function judge(stream) {
  return new Promise(resolve => {
    const receiver = new Receiver({ isServer: true, maxPayload: 64 << 20 });
    const verdict = [[], [], null];
    receiver.on('message', (data, binary) => verdict[0].push((binary ? 'b' : 't') + digest(data)));
    receiver.on('ping', data => verdict[1].push(digest(data)));
    receiver.on('conclude', code => { verdict[2] = code; });
    receiver.on('error', () => {}); // told to the callback too
    receiver.write(stream, why => {
      if (why) verdict[2] = why[Object.getOwnPropertySymbols(why).find(one => one.description === 'status-code')] || String(why);
      resolve(verdict);
    });
  });
}

async function main() {
  const all = fs.readFileSync(file);
  for (let at = 0; at < all.length;) {
    const size = all.readUInt32BE(at);
    console.log(JSON.stringify(await judge(Buffer.from(all.subarray(at + 4, at + 4 + size)))));
    at += 4 + size;
  }
}

main();
