// Command driver is a CSI driver for trying snapshots out: volumes are folders, a snapshot is a copy of one.
// It has no node part, so pods cannot mount its volumes.
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
)

const size = 1 << 30

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	name, root string
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

func main() {
	d := &driver{}
	socket := flag.String("socket", "", "path of the socket to listen on")
	flag.StringVar(&d.root, "root", "", "folder of volumes and snapshots")
	flag.StringVar(&d.name, "name", "folders.test.perdure.dev", "name of the driver")
	flag.Parse()
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(d.root, kind), 0o755); err != nil {
			log.Fatal(err)
		}
	}
	os.Remove(*socket)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterGroupControllerServer(server, d)
	log.Fatal(server.Serve(listener))
}
