"""Runs moto's server with the two rules of Route 53 that moto does not keep.

Read by `lab`, which hands it to the Python of moto's own environment.

moto accepts a DELETE of any record that was ever created with these values, and then removes the
one that is there now; it also carries out a batch up to the change that fails. Route 53 compares
with what is there, and changes all or nothing.

It also plays a Route 53 that is throttled, slow or late, as the file in LAB_BEHAVIOUR says: `throttled`,
`slow SECONDS`, `late SECONDS`.
"""

import copy
import os
import pathlib
import sys
import threading
import time

from moto.route53 import models
from moto.route53.exceptions import Route53ClientError
from moto.server import main

BATCH = threading.Lock()
carry_out = models.Route53Backend.change_resource_record_sets
list_record_sets = models.Route53Backend.list_resource_record_sets


def behaviour():
    """Returns how to behave, and for how many seconds."""
    try:
        how, _, seconds = pathlib.Path(os.environ["LAB_BEHAVIOUR"]).read_text().partition(" ")
    except (KeyError, FileNotFoundError):
        return "", 0
    return how, float(seconds or 0)


def before():
    """Refuses a request, or holds it up."""
    how, seconds = behaviour()
    if how == "throttled":
        raise Route53ClientError("Throttling", "Rate exceeded")
    if how == "slow":
        time.sleep(seconds)


def content(record_set):
    """Returns time to live and values of a record, be it moto's own or one from a request."""
    if isinstance(record_set, dict):
        listed = record_set.get("ResourceRecords", [])
        found = [item["Value"] if isinstance(item, dict) else item for item in listed]
        return str(record_set.get("TTL")), sorted(found)
    return str(record_set.ttl), sorted(record_set.records)


def refuse(action, key, why):
    name, record_type = key
    text = f"Tried to {action} resource record set [name='{name}.', type='{record_type}'] but {why}"
    raise Route53ClientError("InvalidChangeBatch", text)


def listed(self, *arguments, **named):
    before()
    return list_record_sets(self, *arguments, **named)


def change(self, zoneid, change_list):
    before()
    done = change_at_once(self, zoneid, change_list)
    how, seconds = behaviour()
    if how == "late":
        time.sleep(seconds)
    return done


def change_at_once(self, zoneid, change_list):
    with BATCH:
        zone = self.get_hosted_zone(zoneid)
        there = {(record.name.rstrip("."), record.type): record for record in zone.rrsets}
        for value in change_list:
            wanted = value["ResourceRecordSet"]
            # moto finds a record to delete only by a name without the final dot.
            wanted["Name"] = wanted["Name"].rstrip(".")
            key = (wanted["Name"], wanted["Type"])
            found = there.get(key)
            if value["Action"] == "CREATE" and found is not None:
                refuse("create", key, "it already exists")
            if value["Action"] == "DELETE":
                if found is None:
                    refuse("delete", key, "it was not found")
                if content(found) != content(wanted):
                    refuse("delete", key, "the values provided do not match the current values")
                del there[key]
            else:
                there[key] = copy.deepcopy(wanted)
        return carry_out(self, zoneid, change_list)


models.Route53Backend.change_resource_record_sets = change
models.Route53Backend.list_resource_record_sets = listed
sys.exit(main())
