"""Two python-socketio clients meet in a room: meeting.py URL TRANSPORT."""

import sys
import uuid

import requests
import socketio

# Seconds to wait for anything at all.
PATIENCE = 20


def login(url, username):
    answer = requests.post(f"{url}/api/auth/login", json={"username": username}, timeout=PATIENCE)
    answer.raise_for_status()
    return answer.json()


def connect(url, transport, token):
    client = socketio.SimpleClient()
    client.connect(url, auth={"token": token}, transports=[transport], wait_timeout=PATIENCE)
    assert client.transport == transport, client.transport
    return client


def receive(client, wanted, accepts=lambda value: True):
    """The payload of the next `wanted` event that is accepted; others are skipped."""
    while True:
        event, *args = client.receive(timeout=PATIENCE)
        if event == wanted and accepts(*args):
            return args[0]


def refused(url, transport, auth, message):
    client = socketio.Client(reconnection=False)
    told = []
    client.on("connect_error", lambda data: told.append(data))
    try:
        client.connect(url, auth=auth, transports=[transport], wait_timeout=PATIENCE)
    except socketio.exceptions.ConnectionError:
        assert any(message in str(data) for data in told), told
        return
    raise AssertionError(f"connected with {auth}")


def main(url, transport):
    refused(url, transport, {"token": "nonsense"}, "Invalid token")
    refused(url, transport, None, "Authentication required")

    room = f"python-{uuid.uuid4()}"
    ada_account, bob_account = login(url, "Ada"), login(url, "Bob")
    ada = connect(url, transport, ada_account["token"])
    bob = connect(url, transport, bob_account["token"])

    assert ada.call("join-room", {"roomId": room}, timeout=PATIENCE)["ok"] is True
    assert [user["id"] for user in receive(ada, "room-users")] == [ada_account["userId"]]
    assert bob.call("join-room", {"roomId": room}, timeout=PATIENCE)["ok"] is True
    users = receive(bob, "room-users")
    assert {user["username"] for user in users} == {"Ada", "Bob"}, users
    assert receive(bob, "room-objects") == []
    assert receive(ada, "user-joined")["id"] == bob_account["userId"]

    pose = {"position": {"x": 1.1, "y": 1.6, "z": -2.5}, "rotation": {"x": 0, "y": 0.5, "z": 0}}
    ada.emit("update-position", pose)
    moved = receive(bob, "user-moved")
    assert moved["id"] == ada_account["userId"], moved
    assert {"position": moved["position"], "rotation": moved["rotation"]} == pose, moved

    created = bob.call("object-create", {"id": "lamp", "on": True}, timeout=PATIENCE)
    assert created["ok"] is True and created["id"] == "lamp", created
    assert receive(ada, "object-created") == {"id": "lamp", "on": True}

    assert ada.call("room-message", {"type": "file", "data": b"\x00\x01\xff"}, timeout=PATIENCE)["ok"]
    assert receive(bob, "room-message")["data"] == b"\x00\x01\xff"

    denied = ada.call("object-delete", {"id": "nothing"}, timeout=PATIENCE)
    assert denied["ok"] is False and denied["error"]["code"] and denied["error"]["message"], denied

    bob.disconnect()
    assert receive(ada, "user-left") == bob_account["userId"]
    ada.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
