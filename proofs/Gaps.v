(** Which gaps between hits force every chunking to agree?

    Y. Low ("Parallel Chunking", Hugging Face) certifies a cut after two gaps of
    moderate length.  One gap is enough, and its bounds are tight: both are
    proved here, with counterexamples one step outside the bounds.  The live set
    (LiveSet.v) is the exact answer; these tests are kept as a comparison. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule.
Import ListNotations.

(** [c1] and [c2] are hits with no hit between them. *)
Definition consecutive (h : hits) (c1 c2 : nat) : Prop :=
  c1 < c2 /\ loose h c1 = true /\ loose h c2 = true
  /\ forall c, c1 < c < c2 -> loose h c = false.

(** A set of hits, all strict: the plain rule of [xet] has no other kind. *)
Definition all_strict (hit : nat -> bool) : hits := {| strict := hit; loose := hit |}.

Lemma all_strict_nested : forall hit, nested (all_strict hit).
Proof. now intros hit c. Qed.

Section Gaps.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.

  Notation chunking h := (plain min normal max h).
  Notation need := (need min normal).
  Notation is_cut h := (cut_of min max (chunking h)).
  Let sizes' : 1 <= min <= max := min_max_sizes _ _ _ sizes.

  (** ** One gap is enough *)

  (** The one-gap theorem, for every [normal].  Between consecutive hits [c1 < c2]
      let [need] be [min] for a strict hit and [normal] for a loose one.  If
      [need c2 <= c2 - c1 <= max - need c1 + 1] then [c2] is a cut of every
      chunking that began at or before [c1]. *)
  Theorem one_gap : forall h c1 c2,
    nested h -> consecutive h c1 c2 ->
    need (strict h c2) <= c2 - c1 ->
    c2 - c1 <= max - need (strict h c1) + 1 ->
    forall o, o <= c1 -> is_cut h o c2.
  Proof.
    intros h c1 c2 N (L & H1 & H2 & Q) Lo Hi o Lc.
    assert (B := plain_bounded _ _ _ sizes h).
    assert (Need : forall c, 1 <= need (strict h c) <= max)
      by (intros c; unfold Rule.need; destruct (strict h c); lia).
    pose proof (Need c1). pose proof (Need c2).
    (* The last cut at or before c1 is c1, or so near that c1 was out of reach. *)
    destruct (last_cut_exists _ _ sizes' _ B o (S c1)) as (C & La & U); [lia|].
    set (a := after (chunking h) o (S o) (S c1 - S o)) in *.
    assert (Near : c1 < a + need (strict h c1)).
    { destruct (Nat.eq_dec a c1) as [->|]; [lia|].
      destruct (next_cut_spec _ _ sizes' _ B a) as (R & _ & Quiet).
      specialize (Quiet c1 ltac:(lia)). rewrite plain_at_hit in Quiet; trivial; [|lia].
      now apply Nat.leb_gt. }
    (* From there nothing fires before c2, and c2 does. *)
    replace c2 with (next_cut min max (chunking h) a); [now constructor|].
    apply (next_cut_unique _ _ sizes' _ B); [lia| |].
    - rewrite plain_at_hit; trivial; [apply Nat.leb_le|]; lia.
    - intros d Hd. destruct (lt_eq_lt_dec d c1) as [[D|D]|D].
      + destruct (next_cut_spec _ _ sizes' _ B a) as (_ & _ & Quiet). apply Quiet. lia.
      + subst d. rewrite plain_at_hit; trivial; [apply Nat.leb_gt; lia|lia].
      + rewrite plain_no_hit; trivial; [apply Nat.eqb_neq; lia|apply Q; lia].
  Qed.

  (** ** The bounds are tight, whatever the kinds of the two hits *)

  (** Two hits and no others, each strict or loose as wished. *)
  Definition two_hits (c1 c2 : nat) (s1 s2 : bool) : hits := {|
    strict c := ((c =? c1) && s1) || ((c =? c2) && s2);
    loose c := (c =? c1) || (c =? c2)
  |}.

  Lemma two_hits_nested : forall c1 c2 s1 s2, nested (two_hits c1 c2 s1 s2).
  Proof.
    intros c1 c2 s1 s2 c. simpl. destruct (c =? c1), (c =? c2); simpl; trivial.
  Qed.

  Lemma two_hits_consecutive : forall c1 c2 s1 s2, c1 < c2 -> consecutive (two_hits c1 c2 s1 s2) c1 c2.
  Proof.
    intros c1 c2 s1 s2 L. repeat split; trivial; simpl; rewrite ?Nat.eqb_refl, ?orb_true_r; trivial.
    intros c Hc. destruct (Nat.eqb_spec c c1), (Nat.eqb_spec c c2); trivial; lia.
  Qed.

  Lemma two_hits_strict : forall c1 c2 s1 s2, c1 < c2 ->
    strict (two_hits c1 c2 s1 s2) c1 = s1 /\ strict (two_hits c1 c2 s1 s2) c2 = s2.
  Proof.
    intros c1 c2 s1 s2 L. simpl. rewrite !Nat.eqb_refl.
    destruct (Nat.eqb_spec c1 c2), (Nat.eqb_spec c2 c1); try lia. simpl.
    now rewrite orb_false_r.
  Qed.

  (** A chunk that spans [c2] shows that [c2] is no cut. *)
  Lemma spanned_is_no_cut : forall h o a c,
    is_cut h o a -> a < c < next_cut min max (chunking h) a -> ~ is_cut h o c.
  Proof.
    intros h o a c C Span Cc. assert (B := plain_bounded _ _ _ sizes h).
    assert (A : last_cut_before min max (chunking h) o (S c) a) by (repeat split; trivial; lia).
    assert (A' : last_cut_before min max (chunking h) o (S c) c).
    { pose proof (next_after _ _ sizes' _ B c). repeat split; trivial; lia. }
    rewrite (last_cut_unique _ _ sizes' _ B _ _ _ A') in Span.
    rewrite <- (last_cut_unique _ _ sizes' _ B _ _ _ A) in Span. lia.
  Qed.

  (** One step below: a gap of [need c2 - 1].  The chunking that has [c1] skips [c2]. *)
  Theorem gap_below_fails : forall s1 s2 c1 c2,
    2 <= need s2 -> c2 - c1 = need s2 - 1 ->
    consecutive (two_hits c1 c2 s1 s2) c1 c2
    /\ ~ is_cut (two_hits c1 c2 s1 s2) c1 c2.
  Proof.
    intros s1 s2 c1 c2 Ge Gap. set (h := two_hits c1 c2 s1 s2).
    assert (need s2 <= max) by (unfold Rule.need; destruct s2; lia).
    assert (L : c1 < c2) by lia.
    assert (N : nested h) by apply two_hits_nested.
    destruct (two_hits_strict c1 c2 s1 s2 L) as [S1 S2]. fold h in S1, S2.
    destruct (two_hits_consecutive c1 c2 s1 s2 L) as (_ & H1 & H2 & Q). fold h in H1, H2, Q.
    split; [now apply two_hits_consecutive|].
    apply (spanned_is_no_cut h c1 c1); [constructor|].
    assert (B := plain_bounded _ _ _ sizes h).
    destruct (next_cut_spec _ _ sizes' _ B c1) as (R & T & _).
    destruct (le_lt_dec (next_cut min max (chunking h) c1) c2) as [D|D]; [exfalso|lia].
    set (d := next_cut min max (chunking h) c1) in *.
    destruct (Nat.eq_dec d c2) as [E|E].
    - rewrite E, plain_at_hit, S2 in T; trivial; [apply Nat.leb_le in T; lia|lia].
    - rewrite plain_no_hit in T; trivial; [apply Nat.eqb_eq in T; lia|apply Q; lia].
  Qed.

  (** One step above: a gap of [max - need c1 + 2].  The chunking that begins just
      too near to [c1] is forced to cut one before [c2], and skips [c2]. *)
  Theorem gap_above_fails : forall s1 s2 c1 c2,
    2 <= need s2 -> need s1 <= c1 -> c2 - c1 = max - need s1 + 2 ->
    consecutive (two_hits c1 c2 s1 s2) c1 c2
    /\ exists o, o <= c1 /\ ~ is_cut (two_hits c1 c2 s1 s2) o c2.
  Proof.
    intros s1 s2 c1 c2 Ge Room Gap. set (h := two_hits c1 c2 s1 s2).
    assert (1 <= need s1 <= max) by (unfold Rule.need; destruct s1; lia).
    assert (2 <= need s2 <= max) by (unfold Rule.need in *; destruct s2; lia).
    assert (L : c1 < c2) by lia.
    assert (N : nested h) by apply two_hits_nested.
    destruct (two_hits_strict c1 c2 s1 s2 L) as [S1 S2]. fold h in S1, S2.
    destruct (two_hits_consecutive c1 c2 s1 s2 L) as (_ & H1 & H2 & Q). fold h in H1, H2, Q.
    split; [now apply two_hits_consecutive|].
    assert (B := plain_bounded _ _ _ sizes h).
    assert (Only : forall c, c <> c1 -> c <> c2 -> loose h c = false).
    { intros c ? ?. simpl. destruct (Nat.eqb_spec c c1), (Nat.eqb_spec c c2); trivial; lia. }
    set (o := c1 - need s1 + 1). exists o. split; [unfold o; lia|].
    (* The first cut is forced at c2 - 1 ... *)
    assert (F : next_cut min max (chunking h) o = c2 - 1).
    { apply (next_cut_unique _ _ sizes' _ B); [unfold o; lia| |].
      - replace (c2 - 1) with (o + max) by (unfold o; lia). apply (fires_at_max _ _ _ B).
      - intros d Hd. destruct (Nat.eq_dec d c1) as [->|].
        + rewrite plain_at_hit, S1; trivial; [apply Nat.leb_gt; unfold o; lia|unfold o in *; lia].
        + rewrite plain_no_hit by (trivial; apply Only; lia).
          apply Nat.eqb_neq. unfold o in *; lia. }
    (* ... and the next one lies beyond c2. *)
    apply (spanned_is_no_cut h o (c2 - 1)); [rewrite <- F; constructor; constructor|].
    destruct (next_cut_spec _ _ sizes' _ B (c2 - 1)) as (R & T & _).
    destruct (Nat.eq_dec (next_cut min max (chunking h) (c2 - 1)) c2) as [E|E]; [exfalso|lia].
    rewrite E, plain_at_hit, S2 in T; trivial; [|lia]. apply Nat.leb_le in T. lia.
  Qed.
End Gaps.

(** * The plain minimum and maximum: [normal = min], the rule of [xet] *)

Section Low.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.

  Notation chunking hit := (plain min min max (all_strict hit)).
  Notation next hit := (next_cut min max (chunking hit)).
  Notation is_cut hit := (cut_of min max (chunking hit)).

  Let sizes' : 1 <= min <= min /\ min <= max.
  Proof. lia. Qed.

  Lemma need_min : forall s, need min min s = min.
  Proof. now intros []. Qed.

  (** Consecutive hits [c1 < c2] with [min <= c2 - c1 <= max - min + 1]: [c2] is a
      cut of every chunking that began at or before [c1]. *)
  Corollary one_gap_plain : forall hit c1 c2,
    c1 < c2 -> hit c1 = true -> hit c2 = true ->
    (forall c, c1 < c < c2 -> hit c = false) ->
    min <= c2 - c1 <= max - min + 1 ->
    forall o, o <= c1 -> is_cut hit o c2.
  Proof.
    intros hit c1 c2 L H1 H2 Q G. apply one_gap; rewrite ?need_min; try lia; try easy.
  Qed.

  (** Low's theorem.  A second worker, begun anywhere, finds three consecutive cuts
      [c0], [c1], [c2]; both chunks are longer than [min] and at most [max - min]; and
      no hit hides between them.  Then [c2] is a cut of every chunking that has a cut at
      or before [c1].  [c0] may be any cut, forced ones included (or the seek point
      itself); that [c1] and [c2] are hits follows, for a forced chunk is too long.

      Low's paper says "aligns on [c1] or [c2]"; aligning on [c1] gives [c2] too. *)
  Theorem low_two_gaps : forall hit c0 c1 c2,
    c1 = next hit c0 -> c2 = next hit c1 ->
    min < c1 - c0 <= max - min -> min < c2 - c1 <= max - min ->
    (forall c, c0 < c < c2 -> c <> c1 -> hit c = false) ->
    forall o, o <= c1 -> is_cut hit o c2.
  Proof.
    intros hit c0 c1 c2 E1 E2 G1 G2 Q.
    assert (B := plain_bounded _ _ _ sizes' (all_strict hit)).
    assert (Hit : forall b, next hit b - b <= max - min -> hit (next hit b) = true).
    { intros b G. destruct (next_cut_spec _ _ sizes _ B b) as (R & T & _).
      destruct (hit (next hit b)) eqn:H; trivial.
      rewrite plain_no_hit in T; trivial; [apply Nat.eqb_eq in T; lia|apply all_strict_nested]. }
    apply one_gap_plain; try lia.
    - rewrite E1. apply Hit. lia.
    - rewrite E2. apply Hit. lia.
    - intros; apply Q; lia.
  Qed.

  (** The bounds of [one_gap_plain] are tight for every [2 <= min <= max]. *)
  Corollary one_gap_plain_tight : 2 <= min -> forall c1 c2,
    min <= c1 -> c2 - c1 = min - 1 \/ c2 - c1 = max - min + 2 ->
    let hit c := (c =? c1) || (c =? c2) in
    exists o, o <= c1 /\ ~ is_cut hit o c2.
  Proof.
    intros Two c1 c2 Room Gap hit.
    (* [all_strict hit] and [two_hits] agree at every position. *)
    assert (Same : forall b c, plain min min max (two_hits c1 c2 true true) b c = chunking hit b c).
    { intros b c. unfold plain, hit. simpl. now rewrite !andb_true_r. }
    assert (Cut : forall o c, is_cut hit o c -> cut_of min max (plain min min max (two_hits c1 c2 true true)) o c)
      by (intros o c; now apply cut_of_agree).
    destruct Gap as [Gap|Gap].
    - exists c1. split; [lia|]. intros C. apply Cut in C.
      destruct (gap_below_fails min min max sizes' true true c1 c2) as [_ No];
        rewrite ?need_min; auto.
    - destruct (gap_above_fails min min max sizes' true true c1 c2) as (_ & o & Lo & No);
        rewrite ?need_min; auto.
      exists o. split; [assumption|]. intros C. now apply Cut in C.
  Qed.
End Low.

(** * What Low's theorem does not allow, on small numbers *)

(** Membership in a list, as hits. *)
Definition among (l : list nat) (c : nat) : bool := existsb (Nat.eqb c) l.

(** A hidden hit breaks it.  With [min = 3], [max = 20] and hits at 25, 27 and 29: the
    chunking from 0 has cuts 20, 25, 29 (27 hides behind the minimum) and both gaps are
    in bounds, yet the chunking from 4 has cuts 24, 27, 47 and misses 29.  A scanner
    that resets its hash at each cut cannot see 27; it must, to use the theorem. *)
Example hidden_hit_misaligns :
  let chunking := plain 3 3 20 (all_strict (among [25; 27; 29])) in
  cuts 3 20 chunking 0 30 = [20; 25; 29] /\ cuts 3 20 chunking 4 50 = [24; 27; 47].
Proof. split; reflexivity. Qed.

(** A forced [c1] breaks it.  With [min = 2], [max = 6] and one hit at 16 the chunking
    from 0 has cuts 6, 12 (both forced), 16; the one from 3 has 9, 15, 21.  No hit hides;
    what fails is the bound [c1 - c0 <= max - min]. *)
Example forced_c1_misaligns :
  let chunking := plain 2 2 6 (all_strict (among [16])) in
  cuts 2 6 chunking 0 17 = [6; 12; 16] /\ cuts 2 6 chunking 3 22 = [9; 15; 21].
Proof. split; reflexivity. Qed.

(** A forced [c2] breaks it: hits at 4 and 8, then none; 14 is forced in one chunking
    only.  From 0 the cuts are 4, 8, 14.  From 7 the first is 13. *)
Example forced_c2_misaligns :
  let chunking := plain 2 2 6 (all_strict (among [4; 8])) in
  cuts 2 6 chunking 0 15 = [4; 8; 14] /\ cuts 2 6 chunking 7 15 = [13].
Proof. split; reflexivity. Qed.

(** The tight bounds on small numbers, [min = 3], [max = 8]: gaps of 3 and 6 align two
    chunkings, gaps of 2 and 7 do not. *)
Example gaps_at_the_bounds :
  let cuts_with gap o := cuts 3 8 (plain 3 3 8 (all_strict (among [10; 10 + gap]))) o 30 in
  (In 13 (cuts_with 3 8) /\ In 13 (cuts_with 3 10))
  /\ (In 16 (cuts_with 6 8) /\ In 16 (cuts_with 6 10))
  /\ (In 12 (cuts_with 2 8) /\ ~ In 12 (cuts_with 2 10))
  /\ (~ In 17 (cuts_with 7 8) /\ In 17 (cuts_with 7 10)).
Proof. vm_compute. intuition discriminate. Qed.
