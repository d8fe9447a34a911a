// Command driver is a CSI driver for trying snapshots out: volumes are folders, a snapshot is a copy of one.
// Its node part mounts a folder into pods of this machine, where -registry says in which folder the kubelet looks
// for drivers.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const size = 1 << 30

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	name, root, node, socket string
}

func (d *driver) at(kind, id string) string { return filepath.Join(d.root, kind, filepath.Base(id)) }

func (d *driver) copied(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if _, err := os.Stat(from); err != nil {
		return status.Error(codes.NotFound, from)
	}
	part := to + ".part"
	os.RemoveAll(part)
	if out, err := exec.Command("cp", "-a", from, part).CombinedOutput(); err != nil {
		return status.Error(codes.Internal, string(out))
	}
	return os.Rename(part, to)
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "0"}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	answer := &csi.GetPluginCapabilitiesResponse{}
	for _, each := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE, csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: each}}})
	}
	return answer, nil
}

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, each := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: each}}})
	}
	return answer, nil
}

func (d *driver) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT}}}}}, nil
}

func (d *driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	to := d.at("volumes", r.Name)
	if from := r.GetVolumeContentSource().GetSnapshot(); from != nil {
		if err := d.copied(d.at("snapshots", from.SnapshotId), to); err != nil {
			return nil, err
		}
	} else if err := os.MkdirAll(to, 0o755); err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: r.Name, CapacityBytes: max(size, r.GetCapacityRange().GetRequiredBytes()), ContentSource: r.VolumeContentSource}}, nil
}

func (d *driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, os.RemoveAll(d.at("volumes", r.VolumeId))
}

func (d *driver) snapshot(id, volume, group string) *csi.Snapshot {
	made := time.Now()
	if info, err := os.Stat(d.at("snapshots", id)); err == nil {
		made = info.ModTime()
	}
	return &csi.Snapshot{SnapshotId: id, SourceVolumeId: volume, SizeBytes: size, ReadyToUse: true,
		CreationTime: timestamppb.New(made), GroupSnapshotId: group}
}

func (d *driver) CreateSnapshot(_ context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	log.Print("CreateSnapshot ", r.Name, " of ", r.SourceVolumeId)
	if err := d.copied(d.at("volumes", r.SourceVolumeId), d.at("snapshots", r.Name)); err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: d.snapshot(r.Name, r.SourceVolumeId, "")}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	log.Print("DeleteSnapshot ", r.SnapshotId)
	return &csi.DeleteSnapshotResponse{}, os.RemoveAll(d.at("snapshots", r.SnapshotId))
}

func (d *driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	answer := &csi.ListSnapshotsResponse{}
	found, _ := os.ReadDir(filepath.Join(d.root, "snapshots"))
	for _, each := range found {
		if r.SnapshotId == "" || r.SnapshotId == each.Name() {
			answer.Entries = append(answer.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: d.snapshot(each.Name(), "unknown", "")})
		}
	}
	return answer, nil
}

func (d *driver) group(name string, volumes []string) (*csi.VolumeGroupSnapshot, error) {
	answer := &csi.VolumeGroupSnapshot{GroupSnapshotId: name, CreationTime: timestamppb.Now(), ReadyToUse: true}
	for _, volume := range volumes {
		id := name + "." + volume
		if err := d.copied(d.at("volumes", volume), d.at("snapshots", id)); err != nil {
			return nil, err
		}
		answer.Snapshots = append(answer.Snapshots, d.snapshot(id, volume, name))
	}
	return answer, nil
}

func (d *driver) CreateVolumeGroupSnapshot(_ context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	log.Print("CreateVolumeGroupSnapshot ", r.Name)
	made, err := d.group(r.Name, r.SourceVolumeIds)
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: made}, err
}

func (d *driver) GetVolumeGroupSnapshot(_ context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	var volumes []string
	for _, id := range r.SnapshotIds {
		volumes = append(volumes, strings.TrimPrefix(id, r.GroupSnapshotId+"."))
	}
	made, err := d.group(r.GroupSnapshotId, volumes)
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: made}, err
}

func (d *driver) DeleteVolumeGroupSnapshot(_ context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	log.Print("DeleteVolumeGroupSnapshot ", r.GroupSnapshotId)
	for _, id := range r.SnapshotIds {
		if err := os.RemoveAll(d.at("snapshots", id)); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func mounted(path string) bool { return exec.Command("mountpoint", "-q", path).Run() == nil }

func (d *driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := os.MkdirAll(r.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if !mounted(r.TargetPath) {
		if out, err := exec.Command("mount", "--bind", d.at("volumes", r.VolumeId), r.TargetPath).CombinedOutput(); err != nil {
			return nil, status.Error(codes.Internal, string(out))
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if mounted(r.TargetPath) {
		if out, err := exec.Command("umount", r.TargetPath).CombinedOutput(); err != nil {
			return nil, status.Error(codes.Internal, string(out))
		}
	}
	if err := os.Remove(r.TargetPath); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: d.name, Endpoint: d.socket, SupportedVersions: []string{"1.0.0"}}, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, r *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	log.Print("registered with the kubelet: ", r.PluginRegistered, " ", r.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func listen(path string) net.Listener {
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func (d *driver) register(registry string) {
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, d)
	log.Fatal(server.Serve(listen(filepath.Join(registry, d.name+"-reg.sock"))))
}

func main() {
	d := &driver{}
	registry := flag.String("registry", "", "folder in which the kubelet looks for drivers; empty: no pod mounts a volume")
	flag.StringVar(&d.socket, "socket", "", "path of the socket to listen on")
	flag.StringVar(&d.node, "node", "", "name of the node that this machine is")
	flag.StringVar(&d.root, "root", "", "folder of volumes and snapshots")
	flag.StringVar(&d.name, "name", "folders.test.perdure.dev", "name of the driver")
	flag.Parse()
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(d.root, kind), 0o755); err != nil {
			log.Fatal(err)
		}
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterGroupControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	if *registry != "" {
		go d.register(*registry)
	}
	log.Fatal(server.Serve(listen(d.socket)))
}
