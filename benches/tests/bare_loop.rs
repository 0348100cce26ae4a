//! The bare loop serves clients as `loadtest` and Socket.IO's are.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use protocol::frame::FrameReader;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
const FRAME_BYTES: usize = 700;

struct BareLoop {
    child: Child,
    address: String,
}

impl BareLoop {
    fn start(encoding: &str) -> Self {
        let bytes = FRAME_BYTES.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bare_loop"))
            .args(["--port", "0", "--frame-bytes", &bytes, "--encoding", encoding])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next().expect("it says where it is").expect("in text");
        let address = line.rsplit('/').next().expect("an URL").to_owned();
        Self { child, address }
    }

    async fn join(&self) -> WebSocketStream<TcpStream> {
        let tcp = TcpStream::connect(&self.address).await.expect("it listens");
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", self.address);
        let (mut client, _) = tokio_tungstenite::client_async(url, tcp).await.expect("it upgrades");
        assert!(text(&mut client).await.starts_with("0{"));
        client.send(Message::text("40{\"token\":\"any\"}")).await.expect("it reads");
        assert!(text(&mut client).await.starts_with("40{\"sid\""));
        client.send(Message::text("421[\"join-room\",{\"roomId\":\"hall\"}]")).await.expect("it reads");
        assert!(text(&mut client).await.starts_with("431[{\"epoch\":0,\"ok\":true,\"roomId\":\"hall\""));
        assert!(text(&mut client).await.starts_with("42[\"room-users\",[{\"id\""));
        client
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        // Both fail where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next(client: &mut WebSocketStream<TcpStream>) -> Message {
    client.next().await.expect("it goes on").expect("in whole frames")
}

async fn text(client: &mut WebSocketStream<TcpStream>) -> String {
    next(client).await.into_text().expect("a text").to_string()
}

async fn watch(encoding: &str, ticks: usize) -> Vec<Message> {
    let server = BareLoop::start(encoding);
    let watch = async {
        let mut client = server.join().await;
        let mut seen = Vec::new();
        for _ in 0..ticks {
            // Moving meanwhile changes nothing.
            client.send(Message::text("42[\"update-position\",{}]")).await.expect("it reads");
            seen.push(next(&mut client).await);
            seen.push(next(&mut client).await);
        }
        seen
    };
    tokio::time::timeout(PATIENCE, watch).await.expect("frames come")
}

#[tokio::test]
async fn a_binary_client_gets_one_pose_frame_after_the_other() {
    for pair in watch("binary", 5).await.chunks(2) {
        let [Message::Text(event), Message::Binary(frame)] = pair else { panic!("{pair:?}") };
        assert_eq!(event.as_str(), "451-[\"pose-frame\",{\"_placeholder\":true,\"num\":0}]");
        let members: usize = FrameReader::new(frame).unwrap().groups().map(|g| g.entries().count()).sum();
        assert!(members > 30, "{members}");
        // Headers of two and of four bytes.
        assert_eq!(2 + event.len() + 4 + frame.len(), FRAME_BYTES);
    }
}

#[tokio::test]
async fn a_json_client_gets_poses_one_by_one() {
    for message in watch("json", 5).await {
        let Message::Text(event) = message else { panic!("{message:?}") };
        let packet = protocol::Packet::decode(event.strip_prefix('4').unwrap()).unwrap();
        let event = packet.event().unwrap();
        assert_eq!(event.name, "user-moved");
        protocol::Pose::from_json(event.first_raw()).unwrap();
    }
}
