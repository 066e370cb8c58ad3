#!/bin/sh
# Makes demo.ts, the clip that `btlive demo` shows when there is nothing else: eight seconds of a
# moving test pattern with a clock, and a beep every second. Needs ffmpeg with libx264.
#
#   assets/make-demo-clip.sh [OUT]          (default: demo.ts beside this script)
#
# It must loop without a seam, in sound as in picture, and stay below 300 kB:
# - 8 s are 200 pictures of 40 ms and 375 AAC frames of 1024 samples at 48 kHz, both exactly;
# - the pictures are closed groups of one second without B frames, so a decoder can start at each
#   second and no picture needs one from before the seam;
# - AAC frames overlap their neighbours, so the sound is encoded for 24 s and the middle third is
#   taken: what its first frame expects before it is what its last frame leaves behind;
# - one AAC frame a PES packet, so that the last one is as long as all others.
set -eu
out=${1:-$(dirname "$0")/demo.ts}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { ffmpeg -nostdin -hide_banner -loglevel error -y -fflags +bitexact "$@"; }

# The pattern shows its own running time; baseline profile plays on everything.
run -f lavfi -i testsrc2=size=320x180:rate=25:duration=8 \
    -c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryslow -threads 1 -crf 31 \
    -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -flags +cgop+bitexact -an "$work/picture.h264"

# A beep of 0.1 s at each second, higher at every fourth: whole periods of the sine.
beep='0.4*lt(mod(t,1),0.1)*sin(2*PI*if(lt(mod(t,4),1),1320,880)*t)'
run -f lavfi -i "aevalsrc=exprs='$beep':sample_rate=48000:duration=24" \
    -c:a aac -b:a 24k -ac 1 -flags +bitexact -f adts "$work/sound.aac"
# The encoder is one frame late: frames 376 to 750 are the seconds 8 to 16.
run -i "$work/sound.aac" -c copy -bsf:a "noise=drop='lt(n,376)+gt(n,750)'" \
    -f adts "$work/third.aac"

# Bit-exact, so that the same ffmpeg makes the same file; a short delay, so that it starts at once.
run -r 25 -i "$work/picture.h264" -i "$work/third.aac" -map 0:v -map 1:a -c copy \
    -metadata service_name="btlive demo" -metadata service_provider=btlive \
    -muxdelay 0.1 -muxpreload 0.1 -pcr_period 20 -pes_payload_size 0 -f mpegts "$out"

size=$(wc -c <"$out")
echo "$out: $size bytes"
[ "$size" -le 300000 ] || { echo "more than 300 kB" >&2; exit 1; }
