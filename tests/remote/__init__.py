"""Readers on other machines, and networks that fail them.

The machines are network namespaces with a cable between them that can be cut
(`tests.networks`); what a cable cannot do to a connection, a proxy does (`tests.proxy`).
Writer and readers are processes of their own, and the test only supervises: it cuts, resets
and stops, and sees how far each is by words of shared memory. Every message carries its
sequence number and a checksum, so each reader finds for itself what is lost, doubled, torn
or out of order.

``--remote-scale`` is a factor on the counts: 1 is for CI, and 5 reaches 50 cables cut, 200
connections reset and 100,000 messages. ``--remote-seed`` repeats the choices of an earlier
run, though not its scheduling.
"""
