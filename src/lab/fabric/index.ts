// The fabric: what the VPC's state says, as namespaces, links, routes and nft tables of this machine.
// Others use this file alone; ARCHITECTURE.md has the packet's way.
export { createFabric, type Fabric, type FabricOptions } from './fabric.ts';
