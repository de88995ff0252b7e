// Node's ws.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
    host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: false, maxPayload: 1 << 26, backlog: 1024,
});

server.on('connection', socket => {
    socket.on('error', () => {});
    socket.on('message', data => {
        const call = JSON.parse(data);
        let result = 840000;
        if (call.method === 'echo') result = call.params[0];
        if (call.method === 'broadcast') {
            const [count, size] = call.params;
            const event = 'x'.repeat(size);
            for (let left = count; left; left--) {
                for (const other of server.clients) if (other !== socket) other.send(event);
            }
            result = count;
        }
        socket.send(JSON.stringify({ jsonrpc: '2.0', result, id: call.id }));
    });
});
