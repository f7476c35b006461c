// The peer ws on Node: echo or broadcast, no extensions. node ws.js MODE PORT; prints "port N".
'use strict'
const { WebSocketServer } = require('ws')

const isBroadcast = process.argv[2] === 'broadcast'
const server = new WebSocketServer({
  port: Number(process.argv[3]), host: '0.0.0.0', backlog: 4096, perMessageDeflate: false, maxPayload: 16 << 20
})

server.on('connection', (socket) => { // Node's HTTP server has set TCP_NODELAY
  socket.on('error', () => {})
  socket.on('message', (data, isBinary) => {
    if (!isBroadcast) return socket.send(data, { binary: isBinary })
    for (const one of server.clients) one.send(data, { binary: isBinary })
  })
})
server.on('listening', () => console.log('port ' + server.address().port))
