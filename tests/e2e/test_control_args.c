/* SPDX-License-Identifier: BSD-3-Clause */
/* Every command of the control socket with missing, wrong-typed, huge and unexpected arguments, and what it must say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "tests/e2e/control_fixture.h"

#define LONG "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define FILE_ARG "'file':{'driver':'file','filename':'second.qcow2'}"
#define EXPORT(id, more) "{'type':'vhost-user-blk','id':" id ",'node-name':'first'," more "}"
#define CREATE(options) "{'job-id':'j','options':{" options "}}"
#define NO_LIMITS "'bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0"
#define COPY(more) "{'device':'first','target':'t'," more "}"
#define ADDR "'addr':{'type':'unix','path':'x.sock'}"

static const struct {
        const char *command, *args, *error;
} wrong[] = {
        { "query-version", "{'x':1}", "Parameter 'x' is unexpected" },
        { "qmp_capabilities", "{'enable':'oob'}", "Invalid parameter type for 'enable', expected: array" },
        { "query-commands", "{'x':1}", "Parameter 'x' is unexpected" },
        { "query-qmp-schema", "{'x':1}", "Parameter 'x' is unexpected" },
        { "query-version", "[]", "'arguments' must be an object" },
        { "quit", "{'now':true}", "Parameter 'now' is unexpected" },
        { "upgrade", "{'binary':7}", "Invalid parameter type for 'binary'" },
        { "upgrade", "{'binary':'/no/such/program'}", "cannot be started: No such file" },
        { "query-block-exports", "{'id':'first'}", "Parameter 'id' is unexpected" },
        { "query-named-block-nodes", "{'flat':'yes'}", "Invalid parameter type for 'flat', expected: boolean" },
        { "query-named-block-nodes", "{'x':{}}", "Parameter 'x' is unexpected" },
        { "query-blockstats", "{'query-nodes':1}", "Invalid parameter type for 'query-nodes', expected: boolean" },
        { "query-blockstats", "{'x':1}", "Parameter 'x' is unexpected" },
        { "query-disk-stats", "{'node-name':'no-such'}", "Cannot find device='' nor node-name='no-such'" },
        { "query-disk-stats", "{'histograms':1}", "Invalid parameter type for 'histograms', expected: boolean" },
        { "reload-config", "{'x':1}", "Parameter 'x' is unexpected" },
        { "disk-add", "{'id':'n'}", "Parameter 'keys' is missing" },
        { "disk-add", "{'id':'n','keys':[]}", "Invalid parameter type for 'keys', expected: object" },
        { "disk-add", "{'id':'1','keys':{}}", "id=1: expected a letter" },
        { "disk-add", "{'id':'n','keys':{}}", "no file: expected path=FILE" },
        { "disk-add", "{'id':'n','keys':{'path':'second.qcow2','sokcet':'s'}}", "'sokcet' is not a key of a disk; did you mean 'socket'?" },
        { "disk-add", "{'id':'n','keys':{'path':[]}}", "Invalid parameter type for 'keys.path', expected: string" },
        { "disk-add", "{'id':'n','keys':{'path':'second.qcow2','fd':3}}", "Parameter 'keys.fd' is unexpected" },
        { "disk-add", "{'id':'n','keys':{'path':'second.qcow2','num-queues':0}}", "num-queues=0: expected a number from 1 to 256" },
        { "disk-add", "{'id':'n','keys':{'path':'no.qcow2','format':'qcow2','socket':'x.sock'}}", "No such file" },
        { "disk-add", "{'id':'n','keys':{'path':'second.qcow2','format':'qcow2'}}", "no socket to listen on" },
        { "disk-add", "{'id':'first','keys':{'path':'second.qcow2','socket':'x.sock'}}", "there is a disk 'first' already" },
        { "disk-add", "{'id':'n','save':1,'keys':{}}", "'save', expected: boolean" },
        { "disk-remove", "{}", "Parameter 'id' is missing" },
        { "disk-remove", "{'id':'nope'}", "there is no disk 'nope'" },
        { "disk-remove", "{'id':'first','save':true}", "vdiskd was started without --config" },
        { "disk-remove", "{'id':'first','force':'no'}", "'force', expected: boolean" },
        { "no-such-command", "{}", "The command no-such-command has not been found" },

        { "blockdev-add", "{}", "Parameter 'driver' is missing" },
        { "blockdev-add", "{'driver':7}", "Invalid parameter type for 'driver', expected: string" },
        { "blockdev-add", "{'driver':'vmdk','node-name':'n'}", "Parameter 'driver' does not accept value 'vmdk'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n'}", "Parameter 'file' is missing" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':7}", "Invalid parameter type for 'file', expected: BlockdevRef" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':'f'}", "Cannot find device='f' nor node-name='f'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':'first'}", "Node 'first' is an image" },
        { "blockdev-add", "{'driver':'file','node-name':'n','filename':'no.img'}", "Could not open 'no.img': No such file" },
        { "blockdev-add", "{'driver':'file','node-name':'n','filename':'.'}", "neither a regular file nor a block device" },
        { "blockdev-add", "{'driver':'file','node-name':'first','filename':'zeros.img'}", "Duplicate nodes with node-name='first'" },
        { "block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'first','addr':{'type':'fd','str':'0'}}",
          "descriptors are named on the command line only" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file'}}", "Parameter 'file.filename' is missing" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'filename':'a'}}", "Parameter 'file.driver' is missing" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'nbd','filename':'a'}}", "'file.driver' does not" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':[]}}", "'file.filename'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':'no.qcow2'}}", "No such file" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':''}}", "No such file" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':'.'}}", "directory" },
        { "blockdev-add", "{'driver':'raw','node-name':'n','file':{'driver':'file','filename':'a'},"
          "'data-file':{'driver':'file','filename':'b'}}", "Parameter 'data-file' is unexpected" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':'a'},'data-file':{}}",
          "Parameter 'data-file.driver' is missing" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':'first.qcow2'}}", "in use" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','file':{'driver':'file','filename':'zeros.img'}}", "zeros.img" },
        { "blockdev-add", "{'driver':'qcow2'," FILE_ARG "}", "'node-name' must be specified for the root node" },
        { "blockdev-add", "{'driver':'qcow2','node-name':''," FILE_ARG "}", "Invalid node-name: ''" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'1 x'," FILE_ARG "}", "Invalid node-name: '1 x'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'" LONG "'," FILE_ARG "}", "Node name too long" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'first'," FILE_ARG "}", "Duplicate nodes with node-name='first'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','cache':{'direct':5}," FILE_ARG "}", "'cache.direct', expected: boolean" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','cache':{'no-flush':true}," FILE_ARG "}", "'cache.no-flush' does not accept true" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','discard':'ignore'," FILE_ARG "}", "'discard' does not accept" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','read-only':null," FILE_ARG "}", "'read-only', expected: boolean" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','size':512," FILE_ARG "}", "Parameter 'size' is unexpected" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n','size':'1G'}", "'size', expected: integer" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n','size':-1}", "Parameter 'size' expects" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n','size':1.5e300}", "'size', expected: integer" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n','size':9223372036854775807}", "multiple of 512" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n'," FILE_ARG "}", "Parameter 'file' is unexpected" },

        { "blockdev-reopen", "{}", "Parameter 'options' is missing" },
        { "blockdev-reopen", "{'options':{}}", "Invalid parameter type for 'options', expected: array" },
        { "blockdev-reopen", "{'options':[{'driver':'qcow2'}]}", "file' is missing" },
        { "blockdev-reopen", "{'options':[{'driver':'null-co'}]}", "node-name not specified" },
        { "blockdev-reopen", "{'options':[{'driver':'null-co','node-name':'nope'}]}", "Failed to find node with node-name='nope'" },
        { "blockdev-reopen", "{'options':[{'driver':'null-co','node-name':'first'}]}", "Cannot change the option 'driver'" },

        { "change-backing-file", "{'device':'first','image-node-name':'first'}", "Parameter 'backing-file' is missing" },
        { "change-backing-file", "{'device':'no','image-node-name':'no','backing-file':'x'}", "Cannot find device='no'" },
        { "change-backing-file", "{'device':'first','image-node-name':'no','backing-file':'x'}", "Cannot find device='' nor node-name='no'" },
        { "change-backing-file", "{'device':'first','image-node-name':'first','backing-file':'x'}", "an image without a backing file" },
        { "change-backing-file", "{'device':'first','image-node-name':'first','backing-file':''}", "expects the name of a file" },

        { "blockdev-del", "{}", "Parameter 'node-name' is missing" },
        { "blockdev-del", "{'node-name':{}}", "Invalid parameter type for 'node-name', expected: string" },
        { "blockdev-del", "{'node-name':'nope'}", "Failed to find node with node-name='nope'" },
        { "blockdev-del", "{'node-name':'" LONG "'}", "Failed to find node" },
        { "blockdev-del", "{'node-name':'first'}", "Node first is in use" },
        { "blockdev-del", "{'node-name':'first','force':true}", "Parameter 'force' is unexpected" },

        { "block-dirty-bitmap-add", "{}", "Parameter 'node' is missing" },
        { "block-dirty-bitmap-add", "{'node':'first'}", "Parameter 'name' is missing" },
        { "block-dirty-bitmap-add", "{'node':'first','name':'b','granularity':-1}", "Parameter 'granularity' expects" },
        { "block-dirty-bitmap-add", "{'node':'first','name':'b','granularity':4294967296}", "Parameter 'granularity' expects" },
        { "block-dirty-bitmap-add", "{'node':'first','name':'b','persistent':1}", "'persistent', expected: boolean" },
        { "block-dirty-bitmap-add", "{'node':'first','name':'" LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG "'}",
          "Bitmap name too long" },
        { "block-dirty-bitmap-clear", "{'node':'nope','name':'b'}", "Cannot find device" },
        { "block-dirty-bitmap-remove", "{'node':'first','name':'b'}", "Dirty bitmap 'b' not found" },
        { "block-dirty-bitmap-enable", "{'node':'first','name':7}", "'name', expected: string" },
        { "block-dirty-bitmap-disable", "{'node':'first','name':'b','x':1}", "Parameter 'x' is unexpected" },
        { "block-dirty-bitmap-merge", "{'node':'first','target':'b'}", "Parameter 'bitmaps' is missing" },
        { "block-dirty-bitmap-merge", "{'node':'first','target':'b','bitmaps':'a'}", "'bitmaps', expected: array" },
        { "x-debug-block-dirty-bitmap-sha256", "{'node':'first','name':'b'}", "Dirty bitmap 'b' not found" },

        { "block_resize", "{}", "Parameter 'size' is missing" },
        { "block_resize", "{'size':1024}", "Cannot find device='' nor node-name=''" },
        { "block_resize", "{'node-name':'nope','size':1024}", "nor node-name='nope'" },
        { "block_resize", "{'device':'nope','size':1024}", "Cannot find device='nope'" },
        { "block_resize", "{'node-name':'first','size':'1G'}", "'size', expected: integer" },
        { "block_resize", "{'node-name':'first','size':1023}", "multiple of 512" },
        { "block_resize", "{'node-name':'first','size':0}", "multiple of 512" },
        { "block_resize", "{'node-name':'first','size':512}", "does not shrink" },

        { "blockdev-add", "{'driver':'qcow2','node-name':'n','encrypt':'luks'," FILE_ARG "}", "'encrypt', expected: object" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','encrypt':{'format':'aes','key-secret':'s'}," FILE_ARG "}", "'encrypt.format' does not accept value 'aes'" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','encrypt':{'format':'luks'}," FILE_ARG "}", "Parameter 'encrypt.key-secret' is missing" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','encrypt':{'format':'luks','key-secret':'s'},'file':{'driver':'file','filename':'second.qcow2'}}", "is not encrypted" },
        { "blockdev-add", "{'driver':'raw','node-name':'n','encrypt':{'format':'luks','key-secret':'s'},'file':{'driver':'file','filename':'zeros.img'}}", "are not encrypted" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','backing':{'encrypt':1}," FILE_ARG "}", "'backing.encrypt', expected: object" },
        { "blockdev-add", "{'driver':'qcow2','node-name':'n','backing':{'backing':{'x':1}}," FILE_ARG "}", "'backing.backing.x' is unexpected" },

        { "upgrade", "{'binary':7}", "Invalid parameter type for 'binary', expected: string" },
        { "upgrade", "{'x':1}", "Parameter 'x' is unexpected" },

        { "object-add", "{}", "Parameter 'qom-type' is missing" },
        { "object-add", "{'qom-type':'iothread','id':'x'}", "'qom-type' does not accept value 'iothread'" },
        { "object-add", "{'qom-type':'secret','file':'zeros.img'}", "Parameter 'id' is missing" },
        { "object-add", "{'qom-type':'secret','id':'s'}", "Parameter 'file' is missing" },
        { "object-add", "{'qom-type':'secret','id':'','file':'zeros.img'}", "needs a name" },
        { "object-add", "{'qom-type':'secret','id':'s','data':'hush'}", "passwords come from files only" },
        { "object-add", "{'qom-type':'secret','id':'s','file':'no.key'}", "cannot read 'no.key': No such file" },
        { "object-add", "{'qom-type':'secret','id':'s','file':'.'}", "not a regular file" },
        { "object-add", "{'qom-type':'secret','id':'s','file':'/dev/zero'}", "not a regular file" },
        { "object-add", "{'qom-type':'secret','id':'s','file':'zeros.img'}", "more than 65536 bytes" },
        { "object-add", "{'qom-type':'secret','id':'s','file':'zeros.img','format':'hex'}", "'format' does not accept value 'hex'" },
        { "object-del", "{}", "Parameter 'id' is missing" },
        { "object-del", "{'id':'s'}", "object 's' not found" },

        { "block-export-add", "{}", "Parameter 'type' is missing" },
        { "block-export-add", "{'type':'nbd'}", "Parameter 'type' does not accept value 'nbd'" },
        { "block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'nope'," ADDR "}", "Cannot find device='' nor node-name='nope'" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix'}"), "Parameter 'addr.path' is missing" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'inet','path':'x'}"), "'addr.type' does not accept value 'inet'" },
        { "block-export-add", EXPORT("'x'", "'addr':'x.sock'"), "Invalid parameter type for 'addr', expected: object" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix','path':'" LONG "'}"), "is too long" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix','path':''}"), "is empty" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix','path':'no/x.sock'}"), "No such file" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix','path':'zeros.img'}"), "no socket is there already" },
        { "block-export-add", EXPORT("'x'", "'addr':{'type':'unix','path':'first.sock'}"), "is in use" },
        { "block-export-add", EXPORT("7", ADDR), "Invalid parameter type for 'id', expected: string" },
        { "block-export-add", EXPORT("'7'", ADDR), "Invalid block export id" },
        { "block-export-add", EXPORT("'" LONG "'", ADDR), "Invalid block export id" },
        { "block-export-add", EXPORT("'first'", ADDR), "Block export id 'first' is already in use" },
        { "block-export-add", EXPORT("'x'", "'writable':'on'," ADDR), "'writable', expected: boolean" },
        { "block-export-add", EXPORT("'x'", "'num-queues':0," ADDR), "'num-queues' expects a number from 1 to 256" },
        { "block-export-add", EXPORT("'x'", "'num-queues':9223372036854775807," ADDR), "'num-queues' expects" },
        { "block-export-add", EXPORT("'x'", "'logical-block-size':1024," ADDR), "block size of 1024" },
        { "block-export-add", EXPORT("'x'", "'logical-block-size':-512," ADDR), "'logical-block-size' expects" },
        { "block-export-add", EXPORT("'x'", "'serial':'" LONG "'," ADDR), "longer than 20 bytes" },
        { "block-export-add", EXPORT("'x'", "'iothread':'t'," ADDR), "Parameter 'iothread' is unexpected" },

        { "block-export-del", "{}", "Parameter 'id' is missing" },
        { "block-export-del", "{'id':[]}", "Invalid parameter type for 'id', expected: string" },
        { "block-export-del", "{'id':'nope'}", "Export 'nope' is not found" },
        { "block-export-del", "{'id':'first','mode':'soft'}", "Parameter 'mode' does not accept value 'soft'" },
        { "block-export-del", "{'id':'first','x':1}", "Parameter 'x' is unexpected" },

        { "query-jobs", "{'id':'j'}", "Parameter 'id' is unexpected" },
        { "query-block-jobs", "{'x':1}", "Parameter 'x' is unexpected" },
        { "job-cancel", "{}", "Parameter 'id' is missing" },
        { "job-cancel", "{'id':'j'}", "Job not found" },
        { "job-pause", "{}", "Parameter 'id' is missing" },
        { "job-pause", "{'id':'j'}", "Job not found" },
        { "job-resume", "{}", "Parameter 'id' is missing" },
        { "job-resume", "{'id':'j'}", "Job not found" },
        { "job-complete", "{}", "Parameter 'id' is missing" },
        { "job-complete", "{'id':'j'}", "Job not found" },
        { "job-finalize", "{}", "Parameter 'id' is missing" },
        { "job-finalize", "{'id':'j'}", "Job not found" },
        { "blockdev-snapshot", "{'node':'first'}", "Parameter 'overlay' is missing" },
        { "blockdev-snapshot", "{'node':'first','overlay':'x'}", "Cannot find device='' nor node-name='x'" },
        { "blockdev-snapshot-sync", "{'device':'first'}", "Parameter 'snapshot-file' is missing" },
        { "blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x','mode':'relative'}",
          "Parameter 'mode' does not accept value 'relative'" },
        { "blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x','snapshot-node-name':'#x'}", "Invalid node-name: '#x'" },
        { "blockdev-snapshot-internal-sync", "{'device':'first'}", "Parameter 'name' is missing" },
        { "blockdev-snapshot-internal-sync", "{'device':'x','name':'s'}", "Cannot find device='x'" },
        { "blockdev-snapshot-delete-internal-sync", "{'device':'first'}", "Name or id must be provided" },
        { "blockdev-snapshot-delete-internal-sync", "{'device':'first','name':'s'}", "does not exist on device 'first'" },
        { "blockdev-snapshot-revert", "{'device':'first','nme':'s'}", "Parameter 'nme' is unexpected" },
        { "block-stream", "{}", "Parameter 'device' is missing" },
        { "block-stream", "{'device':'x'}", "Cannot find device='x'" },
        { "block-stream", "{'device':'first','base':'x','base-node':'y'}", "Use either a file name or a node name, not both" },
        { "block-stream", "{'device':'first','backing-file':'y'}", "streaming the entire chain" },
        { "block-stream", "{'device':'first','on-error':'cry'}", "Parameter 'on-error' does not accept value 'cry'" },
        { "block-commit", "{'device':'first'}", "cannot commit an image into itself" },
        { "block-commit", "{'device':'first','top-node':'x'}", "Node 'x' is not a backing image of 'first'" },
        { "transaction", "{}", "Parameter 'actions' is missing" },
        { "transaction", "{'actions':[{'type':'x','data':{}}]}", "does not accept value 'x'" },
        { "transaction", "{'actions':[{'type':'abort'}]}", "Parameter 'actions[0].data' is missing" },
        { "transaction", "{'actions':[{'type':'abort','data':{}}]}", "Transaction aborted using Abort action" },
        { "job-dismiss", "{}", "Parameter 'id' is missing" },
        { "job-dismiss", "{'id':'j'}", "Job not found" },
        { "block-job-cancel", "{'device':7}", "Invalid parameter type for 'device', expected: string" },
        { "block-job-cancel", "{'device':'j'}", "Block job 'j' not found" },
        { "block-job-pause", "{'device':7}", "Invalid parameter type for 'device', expected: string" },
        { "block-job-pause", "{'device':'j'}", "Block job 'j' not found" },
        { "block-job-resume", "{'device':7}", "Invalid parameter type for 'device', expected: string" },
        { "block-job-resume", "{'device':'j'}", "Block job 'j' not found" },
        { "block-job-complete", "{'device':7}", "Invalid parameter type for 'device', expected: string" },
        { "block-job-complete", "{'device':'j'}", "Block job 'j' not found" },
        { "block-job-finalize", "{'device':'j'}", "Parameter 'device' is unexpected" },
        { "block-job-finalize", "{'id':'j'}", "Block job 'j' not found" },
        { "block-job-dismiss", "{'device':'j'}", "Parameter 'device' is unexpected" },
        { "block-job-dismiss", "{'id':'j'}", "Block job 'j' not found" },
        { "block-job-cancel", "{'device':'j','force':1}", "Invalid parameter type for 'force', expected: boolean" },
        { "block-job-set-speed", "{'device':'j'}", "Parameter 'speed' is missing" },
        { "block-job-set-speed", "{'device':'j','speed':1}", "Block job 'j' not found" },

        { "object-add", "{'qom-type':'throttle-group','id':'7'}", "Parameter 'id' expects an identifier" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','file':'x'}", "Parameter 'file' is unexpected" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops':1}}", "Parameter 'limits.iops' is unexpected" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops-read':'1'}}", "for 'limits.iops-read', expected: integer" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','limits':{'bps-read':-1}}", "must be within [0, 1000000000000000]" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','x-bps-read':1,'x-bps-total':1}", "cannot be used at the same time" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','limits':{'bps-read-max':1}}", "require corresponding" },
        { "object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops-size':512}}", "iops size requires" },
        { "qom-get", "{'path':'g'}", "Parameter 'property' is missing" },
        { "qom-get", "{'path':'/objects/g','property':'limits'}", "Device '/objects/g' not found" },
        { "qom-set", "{'path':'g','property':'limits','value':7}", "Invalid parameter type for 'value', expected: object" },
        { "qom-set", "{'path':'g','property':'limits','value':{}}", "Device 'g' not found" },
        { "qom-list", "{'path':'/machine'}", "Device '/machine' not found" },
        { "blockdev-add", "{'driver':'null-co','node-name':'n','throttle-group':'g'}", "Throttle group 'g' does not exist" },
        { "block_set_io_throttle", "{'id':'first'}", "is missing" },
        { "block-set-write-threshold", "{'node-name':'first'}", "Parameter 'write-threshold' is missing" },
        { "block-set-write-threshold", "{'node-name':'first','write-threshold':-1}", "'write-threshold' expects a number" },
        { "block-set-write-threshold", "{'node-name':'nope','write-threshold':1}", "Device 'nope' not found" },
        { "block-try-space", "{}", "Parameter 'node-name' is missing" },
        { "block-try-space", "{'node-name':'nope'}", "Device 'nope' not found" },
        { "block_set_io_throttle", "{" NO_LIMITS "}", "Need exactly one of 'device' and 'id'" },
        { "block_set_io_throttle", "{'id':'nope'," NO_LIMITS "}", "Device 'nope' not found" },
        { "block_set_io_throttle", "{'id':'first','iops_size':9," NO_LIMITS "}", "iops size requires" },
        { "block_set_io_throttle", "{'id':'first','bps_max':9," NO_LIMITS "}", "require corresponding" },

        { "blockdev-backup", "{'device':'first','target':'t'}", "Parameter 'sync' is missing" },
        { "blockdev-backup", COPY("'sync':'some'"), "Parameter 'sync' does not accept value 'some'" },
        { "blockdev-backup", COPY("'sync':'full'"), "Cannot find device='t' nor node-name='t'" },
        { "blockdev-backup", "{'device':'no','target':'first','sync':'full'}", "Cannot find device='no' nor node-name='no'" },
        { "blockdev-backup", "{'device':'first','target':'first','sync':'full'}", "Source and target cannot be the same" },
        { "blockdev-backup", COPY("'sync':'full','on-source-error':'panic'"), "'on-source-error' does not accept value 'panic'" },
        { "blockdev-backup", COPY("'sync':'full','replaces':'x'"), "Parameter 'replaces' is unexpected" },
        { "blockdev-backup", COPY("'sync':'incremental'"), "must provide a valid bitmap name for 'incremental' sync mode" },
        { "blockdev-backup", COPY("'sync':'incremental','bitmap':'b','bitmap-mode':'never'"), "must be 'on-success'" },
        { "blockdev-backup", COPY("'sync':'full','bitmap':'b'"), "Bitmap sync mode must be given when providing a bitmap" },
        { "blockdev-backup", COPY("'sync':'full','bitmap-mode':'always'"), "Cannot specify bitmap sync mode without a bitmap" },
        { "blockdev-backup", COPY("'sync':'none','bitmap':'b','bitmap-mode':'always'"), "sync mode 'none' does not produce" },
        { "blockdev-backup", COPY("'sync':'full','bitmap':'b','bitmap-mode':'never'"), "has no meaningful effect when combined" },
        { "blockdev-mirror", "{'device':'first','sync':'full'}", "Parameter 'target' is missing" },
        { "blockdev-mirror", COPY("'sync':'incremental'"), "Parameter 'sync' does not accept value 'incremental'" },
        { "blockdev-mirror", COPY("'sync':'full','copy-mode':'psychic'"), "'copy-mode' does not accept value 'psychic'" },
        { "blockdev-mirror", "{'device':'first','target':'first','sync':'full'}", "Source and target cannot be the same" },
        { "blockdev-create", "{'options':{'driver':'file','filename':'x.img','size':512}}", "Parameter 'job-id' is missing" },
        { "blockdev-create", "{'job-id':'j','options':{}}", "Parameter 'options.driver' is missing" },
        { "blockdev-create", CREATE("'driver':'vmdk'"), "Parameter 'options.driver' does not accept value 'vmdk'" },
        { "blockdev-create", CREATE("'driver':'file','filename':'x.img'"), "Parameter 'options.size' is missing" },
        { "blockdev-create", CREATE("'driver':'file','filename':'x.img','size':-512"), "multiple of 512" },
        { "blockdev-create", CREATE("'driver':'file','filename':'x.img','size':513"), "multiple of 512" },
        { "blockdev-create", CREATE("'driver':'file','filename':'x.img','size':512,'cluster-size':512"), "is unexpected" },
        { "blockdev-create", CREATE("'driver':'qcow2','size':512"), "Parameter 'options.file' is missing" },
        { "blockdev-create", CREATE("'driver':'qcow2','size':512,'file':'f'"), "Cannot find device='' nor node-name='f'" },
        { "blockdev-create", CREATE("'driver':'qcow2','size':512,'file':{'driver':'file','filename':'x.img'},'version':'v4'"),
          "Parameter 'options.version' does not accept value 'v4'" },
        { "blockdev-create", CREATE("'driver':'qcow2','size':512,'file':{'driver':'file','filename':'x.img'},"
          "'backing-file':'second.qcow2'"), "must be given together" },
        { "blockdev-create", CREATE("'driver':'file','filename':'first.qcow2','size':512"), "node 'first' has this file open" },
        { "blockdev-create", "{'job-id':'7','options':{'driver':'file','filename':'x.img','size':512}}", "Invalid job ID '7'" },
};

static void test_wrong_arguments(void **state)
{
        json_t *all;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                const char *error = try(client, wrong[i].command, wrong[i].args, NULL);

                if (!error || !strstr(error, wrong[i].error))
                        fail_msg("%s %s: '%s' instead of '%s'", wrong[i].command, wrong[i].args, error ?: "done", wrong[i].error);
        }
        assert_false(exists("x.sock"));
        assert_false(exists("x.img"));
        all = ask("query-named-block-nodes");
        assert_int_equal(json_array_size(all), 1);
        json_decref(all);
        all = ask("query-block-exports");
        assert_int_equal(json_array_size(all), 1);
        json_decref(all);
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0); /* and it is not locked */
}

/* Every command of query-commands was in the table. */
static void test_no_command_was_forgotten(void **state)
{
        json_t *all = ask("query-commands"), *o;
        size_t i;

        assert_true(json_array_size(all) > 8);
        json_array_foreach (all, i, o) {
                const char *name = json_string_value(json_object_get(o, "name"));
                bool found = false;

                for (size_t k = 0; k < ARRAY_SIZE(wrong); k++)
                        found |= !strcmp(wrong[k].command, name);
                if (!found)
                        fail_msg("%s has no row with wrong arguments", name);
        }
        json_decref(all);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_wrong_arguments, start_default, stop),
                cmocka_unit_test_setup_teardown(test_no_command_was_forgotten, start_default, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
