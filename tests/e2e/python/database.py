"""Python's own OVSDB libraries against the switch's database: ovs.db.idl alone, then ovsdbapp. Says what it saw, a line each."""
import sys

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.stream
from ovsdbapp.backend.ovs_idl import connection
from ovsdbapp.schema.open_vswitch import impl_idl

REMOTE = sys.argv[1]


def say(*words):
    print(*words, flush=True)


def schema():
    error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(REMOTE))
    assert not error, error
    rpc = ovs.jsonrpc.Connection(stream)
    error, reply = rpc.transact_block(ovs.jsonrpc.Message.create_request("get_schema", ["Open_vSwitch"]))
    assert not error and not reply.error, (error, reply)
    rpc.close()
    return reply.result


def wait(idl, condition):
    while not condition():
        if idl.run():
            continue
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.block()


def library():
    helper = ovs.db.idl.SchemaHelper(schema_json=schema())
    helper.register_all()
    idl = ovs.db.idl.Idl(REMOTE, helper)
    wait(idl, lambda: idl.has_ever_connected())
    tables = idl.tables
    root = next(iter(tables["Open_vSwitch"].rows.values()))

    def commit(change):
        txn = ovs.db.idl.Transaction(idl)
        change(txn)
        status = txn.commit_block()
        assert status == ovs.db.idl.Transaction.SUCCESS, (status, txn.get_error())

    def add(txn):
        bridge = txn.insert(tables["Bridge"])
        bridge.name = "idl"
        bridge.external_ids = {"made": "by the library"}
        bridge.protocols = ["OpenFlow13", "OpenFlow15"]
        root.addvalue("bridges", bridge)

    commit(add)
    bridge = next(b for b in tables["Bridge"].rows.values() if b.name == "idl")
    say("library inserted", bridge.name, sorted(bridge.protocols), dict(bridge.external_ids))
    commit(lambda txn: bridge.setkey("external_ids", "more", "1"))
    say("library mutated", sorted(bridge.external_ids))
    commit(lambda txn: root.delvalue("bridges", bridge))
    wait(idl, lambda: all(b.name != "idl" for b in tables["Bridge"].rows.values()))
    say("library deleted")
    # The server refuses a second row of a name, and says why.
    twice = ovs.db.idl.Transaction(idl)
    bridge = twice.insert(tables["Bridge"])
    bridge.name = "br0"
    root.addvalue("bridges", bridge)
    say("library refused", twice.commit_block(), twice.get_error())
    idl.close()


def application():
    idl = connection.OvsdbIdl.from_server(REMOTE, "Open_vSwitch")
    api = impl_idl.OvsdbIdl(connection.Connection(idl=idl, timeout=20))
    api.add_br("app0", datapath_type="netdev").execute(check_error=True)
    with api.transaction(check_error=True) as txn:
        txn.add(api.add_port("app0", "app0p", type="internal"))
        txn.add(api.db_set("Bridge", "app0", ("external_ids", {"owner": "ovsdbapp"})))
    say("application", sorted(api.list_br().execute()), api.list_ports("app0").execute())
    say("application owner", api.db_get("Bridge", "app0", "external_ids").execute()["owner"])
    api.del_br("app0").execute(check_error=True)
    say("application left", [b for b in api.list_br().execute() if b.startswith("app")])


library()
application()
say("done")
