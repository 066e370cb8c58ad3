// bt_tracker.mjs PORT: the npm package bittorrent-tracker as an HTTP and UDP tracker on loopback.
// The package's own entry would load its client, whose native WebRTC part is not built here.
import Server from 'bittorrent-tracker/server'

const port = Number(process.argv[2])
const server = new Server({ http: true, udp: true, ws: false, stats: false, interval: 10000 })
for (const name of ['error', 'warning']) {
  server.on(name, error => console.error(name, error.message))
}
server.listen(port, { http: '127.0.0.1', udp: '127.0.0.1', udp6: '::1' }, () => {
  console.log('listening', port)
})
