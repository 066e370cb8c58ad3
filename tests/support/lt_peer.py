"""lt_peer.py TORRENT|MAGNET DIR PORT [--seed]: a libtorrent peer on loopback that runs until told
to end. Prints a line for each alert worth one, and "complete" when it has everything."""
import signal
import sys
import time

import libtorrent as lt

source, directory, port = sys.argv[1:4]
seed = "--seed" in sys.argv
alerts = lt.alert.category_t
session = lt.session({
    "listen_interfaces": f"127.0.0.1:{port}",
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False,
    # All peers of a test share one address, and trackers there are no attack.
    "allow_multiple_connections_per_ip": True, "ssrf_mitigation": False,
    "announce_to_all_trackers": True, "announce_to_all_tiers": True,
    "alert_mask": alerts.error_notification | alerts.tracker_notification
    | alerts.status_notification,
})
try:
    if source.startswith("magnet:"):
        params = lt.parse_magnet_uri(source)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(source)
except RuntimeError as error:
    sys.exit(f"refused: {error}")
params.save_path = directory
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if seed:
    params.flags |= lt.torrent_flags.seed_mode
handle = session.add_torrent(params)
print("added", flush=True)

running = True


def end(*_):
    global running
    running = False


signal.signal(signal.SIGTERM, end)
complete = False
while running:
    for alert in session.pop_alerts():
        print(type(alert).__name__, alert.message(), flush=True)
    if not complete and not seed and handle.status().is_seeding:
        complete = True
        print("complete", flush=True)
        # The reply is printed as an alert.
        handle.scrape_tracker()
    time.sleep(0.1)
# A pause says "stopped" to trackers; a second is enough for the answers.
handle.pause()
for _ in range(10):
    time.sleep(0.1)
    for alert in session.pop_alerts():
        print(type(alert).__name__, alert.message(), flush=True)
