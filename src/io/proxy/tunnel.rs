//! I/O: a connection that changed its protocol (WebSocket): bytes copied both ways.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::balancer::InFlight;

/// Copies until both sides are done or `abort`. The request is in flight all along.
pub(super) async fn run(
    client: OnUpgrade,
    replica: OnUpgrade,
    _in_flight: InFlight,
    abort: CancellationToken,
) {
    let copied = async {
        let (client, replica) = tokio::try_join!(client, replica).map_err(std::io::Error::other)?;
        let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
        tokio::io::copy_bidirectional(&mut client, &mut replica).await
    };
    tokio::select! {
        result = copied => if let Err(error) = result {
            tracing::debug!(%error, "tunnel ended early");
        },
        () = abort.cancelled() => {}
    }
}
