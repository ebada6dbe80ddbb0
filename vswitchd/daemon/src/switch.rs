//! The slow path and the datapaths, as the daemon holds them: `bridge::room` configures them through the trait `Switch`, commands reach
//! them through methods here.

use crate::bridge::room::Switch;
use crate::bridge::status::Report;
use crate::datapaths::Datapaths;
use crate::offload::Settings;
use crate::options::{Dummy, Options};
use crate::routes::Routes;
use datapath::Topology;
use flow::clock::now_ms;
use flow::seam::{Datapath, DpError};
use ofproto::config::SwitchConfig;
use ofproto::conn::Agents;
use ofproto::router::DeviceAddr;
use ofproto::slowpath::Slowpath;
use ofproto::tunnel::Addr;
use port::Kind;
use port::dummy::{Control, LinkStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long controllers may take to be told what happened at a point of warped time.
const TELLING_MAX: Duration = Duration::from_millis(40);
/// Frames that answer each other between linked dummies at one point of warped time, and how long one is under way.
const WIRE_ROUNDS: usize = 4;
const WIRE_PAUSE: Duration = Duration::from_millis(1);
/// Types of tunnels, as OVS 3.7 lists them (`lisp` and `stt`, which it has given up, are still understood).
const TUNNELS: [&str; 9] = ["bareudp", "erspan", "geneve", "gre", "gtpu", "ip6erspan", "ip6gre", "srv6", "vxlan"];

/// Both.
#[derive(Debug)]
pub struct SlowSwitch {
    pub slowpath: Arc<Slowpath>,
    /// OpenFlow connections.
    pub agents: Arc<Agents>,
    pub datapaths: Arc<Datapaths>,
    dummy: Option<Dummy>,
    /// Follows the kernel's routes, unless the user said no.
    routes: Option<Routes>,
}

impl SlowSwitch {
    /// A switch without bridges, its threads running; needs the runtime.
    pub fn start(options: &Options) -> Self {
        let topology = options.dummy_numa.as_deref().map_or_else(Topology::discover, Topology::imaginary);
        topology.announce();
        let datapaths = Arc::new(Datapaths::new(options.dummy, options.system, topology));
        let opener = Arc::clone(&datapaths);
        let slowpath = Slowpath::new(Box::new(move |what| opener.open(what)));
        slowpath.start();
        let agents = Agents::new(Arc::clone(&slowpath), Handle::current());
        let routes = options.system_route.then(|| Routes::follow(&slowpath)).flatten();
        Self { slowpath, agents, datapaths, dummy: options.dummy, routes }
    }

    /// All datapaths through the seam.
    pub fn datapaths(&self) -> Vec<Arc<dyn Datapath>> {
        self.datapaths.all().into_iter().map(|dp| dp as Arc<dyn Datapath>).collect()
    }

    /// Whether datapaths of that type can be opened.
    pub fn knows_datapath_type(&self, kind: &str) -> bool {
        self.datapaths.types().contains(&kind)
    }

    /// A dummy port by name.
    pub fn dummy(&self, name: &str) -> Option<Control> {
        self.datapaths.dummies().into_iter().find_map(|(port, control)| (port == name).then_some(control))
    }

    /// Tells the slow path the addresses of a dummy port, which no kernel knows.
    pub fn tell_addresses(&self, name: &str, port: &Control) {
        let v4 = port.ip4().into_iter().map(|(a, mask)| (Addr::v4(a.octets()), mask.to_bits().leading_ones() + 96));
        let v6 = port.ip6().into_iter().map(|(a, mask)| (Addr(a.to_bits()), mask.to_bits().leading_ones()));
        let of = |(address, plen): (Addr, u32)| DeviceAddr { address, plen: u8::try_from(plen).unwrap_or(128) };
        self.slowpath.set_device_addresses(name, v4.chain(v6).map(of).collect(), true);
        self.slowpath.settle();
    }

    /// Lets a port receive a frame, and returns when the switch has dealt with it.
    /// # Errors
    /// There is no such port or queue.
    pub fn inject(&self, name: &str, queue: usize, frame: &[u8]) -> Result<(), DpError> {
        let (dp, port) = self.datapaths.port_named(name).ok_or(DpError::NoPort)?;
        dp.inject(port, queue, frame)
    }

    /// Brings everything that is due at this point of (warped) time to its end.
    pub fn settle(&self) {
        let now = now_ms();
        self.agents.tick(now);
        self.agents.wake();
        self.slowpath.run_until_idle(now);
        // Frames on their way from one dummy to another take a moment of real time, whatever the clock says; and each may be answered.
        if self.datapaths.dummies().iter().any(|(_, control)| control.link_status() == LinkStatus::Connected) {
            for _ in 0..WIRE_ROUNDS {
                std::thread::sleep(WIRE_PAUSE);
                self.slowpath.run_until_idle(now);
            }
        }
        self.agents.tell(TELLING_MAX);
    }

    /// Ends all threads; with `cleanup` ports and megaflows go first, without it the netdevs of internal ports stay.
    pub fn close(&mut self, cleanup: bool) {
        if !cleanup {
            port::tap::keep_netdevs();
        }
        self.routes = None;
        self.datapaths.offload.close();
        self.agents.shutdown();
        self.slowpath.shutdown(cleanup);
    }
}

impl Switch for SlowSwitch {
    fn configure(&mut self, config: &SwitchConfig) {
        self.agents.leave(config);
        self.slowpath.configure(config);
        self.datapaths.offload.configure(&Settings::read(&config.datapath));
        self.agents.configure(config);
    }

    fn report(&mut self, counted: &dyn Fn(&str) -> bool) -> Report {
        let status = self.slowpath.status_counting(counted);
        let controllers = self.agents.status();
        Report {
            interfaces: status.interfaces,
            bridges: status.bridges,
            ports: status.ports,
            datapaths: self.slowpath.capabilities(),
            controllers,
        }
    }

    fn news(&self) -> u64 {
        self.slowpath.news()
    }

    fn datapath_types(&self) -> Vec<String> {
        self.datapaths.types().into_iter().map(str::to_owned).collect()
    }

    fn interface_types(&self) -> Vec<String> {
        let there = |kind: &&str| self.dummy.is_some() || !kind.starts_with("dummy");
        Kind::types().filter(there).chain(["patch"]).chain(TUNNELS).map(str::to_owned).collect()
    }

    fn host_statistics(&self) -> Vec<(String, String)> {
        crate::host::statistics(&ctl::dirs::run())
    }
}
