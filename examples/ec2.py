#!/usr/bin/env python3
"""A network interface from its creation to its deletion, and what EC2 answers at the limits, by stock boto3.

    podway lab up --demo
    eval "$(podway lab env)"
    pip install boto3
    python3 examples/ec2.py

Uses the plain instance `db` of the demo (t3.small: 3 interfaces, 4 addresses each) and leaves nothing behind.
"""

import sys
import time

import boto3
from botocore.exceptions import ClientError

ec2 = boto3.client("ec2")


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        print(f"{error.response['Error']['Code']}: {error.response['Error']['Message']}")
        return
    raise SystemExit("EC2 did not refuse this")


def describe(eni):
    return ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]


def wait_for(eni, status):
    end = time.monotonic() + 60
    while describe(eni)["Status"] != status:
        if time.monotonic() > end:
            raise SystemExit(f"{eni} is not {status} after a minute")
        time.sleep(0.1)


def remove(eni):
    attachment = describe(eni).get("Attachment")
    if attachment:
        ec2.detach_network_interface(AttachmentId=attachment["AttachmentId"])
        wait_for(eni, "available")
    ec2.delete_network_interface(NetworkInterfaceId=eni)
    print(f"deleted {eni}")


def main():
    found = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["db"]}])
    instance = found["Reservations"][0]["Instances"][0]
    subnet = instance["SubnetId"]
    print(f"db is {instance['InstanceId']} at {instance['PrivateIpAddress']} in {subnet}")

    enis = []
    try:
        for _ in range(3):
            made = ec2.create_network_interface(SubnetId=subnet, Description="examples/ec2.py")
            enis.append(made["NetworkInterface"]["NetworkInterfaceId"])
        for index in (1, 2):
            ec2.attach_network_interface(
                NetworkInterfaceId=enis[index - 1], InstanceId=instance["InstanceId"], DeviceIndex=index
            )
            wait_for(enis[index - 1], "in-use")
            print(f"attached {enis[index - 1]} as device {index}")
        refused(
            ec2.attach_network_interface,
            NetworkInterfaceId=enis[2],
            InstanceId=instance["InstanceId"],
            DeviceIndex=3,
        )

        assigned = ec2.assign_private_ip_addresses(
            NetworkInterfaceId=enis[0], SecondaryPrivateIpAddressCount=3
        )
        addresses = [each["PrivateIpAddress"] for each in assigned["AssignedPrivateIpAddresses"]]
        print(f"assigned {', '.join(addresses)}")
        refused(
            ec2.assign_private_ip_addresses, NetworkInterfaceId=enis[0], SecondaryPrivateIpAddressCount=1
        )
        ec2.unassign_private_ip_addresses(NetworkInterfaceId=enis[0], PrivateIpAddresses=addresses)
        print(f"unassigned; left: {len(describe(enis[0])['PrivateIpAddresses'])} address")
        refused(ec2.delete_network_interface, NetworkInterfaceId=enis[0])
    finally:
        for eni in enis:
            remove(eni)


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(str(error))
