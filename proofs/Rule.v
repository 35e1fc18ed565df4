(** What is the plain rule (profiles default, scaled and xet), in hits?

    A hit is a position whose full window hash passes a mask, so hits are plain
    predicates on positions; Restart.v proves that a full window knows nothing of
    where the chunk began.  This file gives the rule of the design word for word,
    proves that [next_cut] finds what it says, and proves the two shortcuts of
    replay: looking the next cut up in an ascending list of recorded hits, and
    finding a run of forced cuts by arithmetic. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking.
Import ListNotations.

Record hits := { strict : nat -> bool; loose : nat -> bool }.

(** Every strict hit is a loose hit. *)
Definition nested (h : hits) : Prop := forall c, strict h c = true -> loose h c = true.

(** The hits of one segment: what its worker scans and records. *)
Definition within (s e : nat) (h : hits) : hits := {|
  strict c := (s <=? c) && (c <? e) && strict h c;
  loose c := (s <=? c) && (c <? e) && loose h c
|}.

(** Two inputs whose hits are the same from [p] on (they may differ before). *)
Definition same_hits_from (p : nat) (h h' : hits) : Prop :=
  forall c, p <= c -> strict h c = strict h' c /\ loose h c = loose h' c.

Section Plain.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.

  (** The rule: strict hits from the minimum on, loose ones from the normal size
      on, and a forced cut at the maximum. *)
  Definition plain (h : hits) : rule := fun b c =>
    ((b + min <=? c) && (c <? b + normal) && strict h c)
    || ((b + normal <=? c) && (c <? b + max) && loose h c)
    || (c =? b + max).

  Lemma plain_bounded : forall h, bounded min max (plain h).
  Proof.
    intros h; split; intros b.
    - intros c H. unfold plain in H.
      rewrite !orb_true_iff, !andb_true_iff, !Nat.leb_le, Nat.eqb_eq in H. lia.
    - unfold plain. now rewrite Nat.eqb_refl, orb_true_r.
  Qed.

  Lemma min_max_sizes : 1 <= min <= max.
  Proof. lia. Qed.

  Lemma max_positive : 1 <= max.
  Proof. lia. Qed.

  Notation next h := (next_cut min max (plain h)).

  (** [c] satisfies the rule's text for a chunk that began at [b]. *)
  Definition ends_at (h : hits) (b c : nat) : Prop :=
    (b + min <= c < b + normal /\ strict h c = true)
    \/ (b + normal <= c < b + max /\ loose h c = true)
    \/ c = b + max.

  Lemma plain_ends_at : forall h b c, plain h b c = true <-> ends_at h b c.
  Proof.
    intros. unfold plain, ends_at.
    rewrite !orb_true_iff, !andb_true_iff, !Nat.leb_le, !Nat.ltb_lt, Nat.eqb_eq. tauto.
  Qed.

  (** [next_cut] is the least position that satisfies the rule. *)
  Theorem next_cut_least : forall h b,
    ends_at h b (next h b) /\ forall c, ends_at h b c -> next h b <= c.
  Proof.
    intros h b.
    destruct (next_cut_spec _ _ min_max_sizes _ (plain_bounded h) b) as (R & T & Q). split.
    - now apply plain_ends_at.
    - intros c E. apply plain_ends_at in E.
      destruct (le_lt_dec (next h b) c) as [L|L]; trivial.
      pose proof (fires_late _ _ _ (plain_bounded h) _ _ E). rewrite Q in E by lia. discriminate.
  Qed.

  Theorem next_cut_determined : forall h b c,
    ends_at h b c -> (forall d, ends_at h b d -> c <= d) -> next h b = c.
  Proof.
    intros h b c E Least. destruct (next_cut_least h b) as (E' & Least').
    apply Nat.le_antisymm; auto.
  Qed.

  (** At a position without a hit only the forced cut fires. *)
  Lemma plain_no_hit : forall h b c, nested h -> loose h c = false -> plain h b c = (c =? b + max).
  Proof.
    intros h b c N H. unfold plain. rewrite H.
    destruct (strict h c) eqn:S; [rewrite N in H by assumption; discriminate|].
    now rewrite !andb_false_r.
  Qed.

  (** How far behind a hit a last cut must be to be cut by it. *)
  Definition need (is_strict : bool) : nat := if is_strict then min else normal.

  (** At a hit, exactly the last cuts that lie at least [need] behind move. *)
  Lemma plain_at_hit : forall h b c, nested h -> loose h c = true -> c <= b + max ->
    plain h b c = (b + need (strict h c) <=? c).
  Proof.
    intros h b c N H U. unfold plain, need. rewrite H.
    destruct (strict h c); rewrite ?andb_true_r, ?andb_false_r;
      destruct (Nat.leb_spec (b + min) c), (Nat.ltb_spec c (b + normal)),
        (Nat.leb_spec (b + normal) c), (Nat.ltb_spec c (b + max)), (Nat.eqb_spec c (b + max));
      simpl; trivial; lia.
  Qed.

  (** ** A segment's own hits suffice inside the segment *)

  Lemma plain_within_inside : forall h s e b c,
    s <= c < e -> plain (within s e h) b c = plain h b c.
  Proof.
    intros h s e b c [L U]. unfold plain. simpl.
    apply Nat.leb_le in L. apply Nat.ltb_lt in U. now rewrite L, U.
  Qed.

  Lemma plain_within_fewer : forall h s e b c,
    plain (within s e h) b c = true -> plain h b c = true.
  Proof.
    intros h s e b c. unfold plain. simpl. rewrite !orb_true_iff, !andb_true_iff. tauto.
  Qed.

  Lemma within_nested : forall h s e, nested h -> nested (within s e h).
  Proof. intros h s e N c. simpl. rewrite !andb_true_iff. intuition. Qed.

  (** ** Replay from a list of recorded hits *)

  (** Recorded hits: ascending positions, each with whether it is strict. *)
  Definition hits_from (h : hits) (x k : nat) : list (nat * bool) :=
    map (fun c => (c, strict h c)) (filter (loose h) (seq x k)).
  Definition recorded (h : hits) (s e : nat) : list (nat * bool) := hits_from h s (e - s).

  Lemma hits_from_cons : forall h x k,
    hits_from h x (S k) =
    if loose h x then (x, strict h x) :: hits_from h (S x) k else hits_from h (S x) k.
  Proof. intros. unfold hits_from. simpl. now destruct (loose h x). Qed.

  (** The next cut from [b], found by walking the recorded hits. *)
  Fixpoint next_recorded (record : list (nat * bool)) (b : nat) : nat :=
    match record with
    | [] => b + max
    | (c, is_strict) :: rest =>
        if b + max <=? c then b + max
        else if b + need is_strict <=? c then c
        else next_recorded rest b
    end.

  (** Walking the record gives the rule's next cut. *)
  Theorem replay_finds_next_cut : forall h s e b,
    nested h -> next_recorded (recorded h s e) b = next (within s e h) b.
  Proof.
    intros h s e b N. symmetry. unfold recorded. set (own := within s e h).
    assert (No : nested own) by now apply within_nested.
    assert (Forced : forall f, bounded min max f -> (forall d, b < d < b + max -> f b d = false) ->
              next_cut min max f b = b + max).
    { intros f B Q. apply (next_cut_unique _ _ min_max_sizes _ B); trivial; [lia|].
      apply (fires_at_max _ _ _ B). }
    (* Generalize over the position reached: nothing before it fires. *)
    assert (G : forall k x, x + k = Nat.max s e -> s <= x ->
              (forall d, b < d < b + max -> d < x -> plain own b d = false) ->
              next own b = next_recorded (hits_from h x k) b).
    { induction k as [|k IH]; intros x Ex Lx Q.
      - apply Forced; [apply plain_bounded|]. intros d Hd.
        destruct (le_lt_dec x d) as [L|L]; [|now apply Q].
        rewrite plain_no_hit; trivial; [apply Nat.eqb_neq; lia|].
        simpl. replace (d <? e) with false by (symmetry; apply Nat.ltb_ge; lia).
        now rewrite andb_false_r.
      - assert (I : s <= x < e) by lia.
        assert (Ho : loose own x = loose h x /\ strict own x = strict h x).
        { simpl. destruct I as [L U]. apply Nat.leb_le in L. apply Nat.ltb_lt in U.
          now rewrite L, U. }
        destruct Ho as [Ho So].
        rewrite hits_from_cons. destruct (loose h x) eqn:H.
        + simpl. destruct (Nat.leb_spec (b + max) x) as [M|M].
          * apply Forced; [apply plain_bounded|]. intros; apply Q; lia.
          * destruct (Nat.leb_spec (b + need (strict h x)) x) as [R|R].
            -- assert (b < x) by (unfold need in R; destruct (strict h x); lia).
               apply (next_cut_unique _ _ min_max_sizes _ (plain_bounded own)); trivial.
               ++ rewrite plain_at_hit, So; trivial; [now apply Nat.leb_le|lia].
               ++ intros; apply Q; lia.
            -- apply IH; [lia|lia|]. intros d Hd Ld.
               destruct (Nat.eq_dec d x) as [->|]; [|apply Q; lia].
               rewrite plain_at_hit, So; trivial; [apply Nat.leb_gt; lia|lia].
        + apply IH; [lia|lia|]. intros d Hd Ld.
          destruct (Nat.eq_dec d x) as [->|]; [|apply Q; lia].
          rewrite plain_no_hit; trivial. apply Nat.eqb_neq; lia. }
    destruct (le_lt_dec s e) as [L|L].
    - apply G; [lia|lia|]. intros d Hd Ld.
      rewrite plain_no_hit; trivial; [apply Nat.eqb_neq; lia|].
      simpl. now replace (s <=? d) with false by (symmetry; apply Nat.leb_gt; lia).
    - replace (e - s) with 0 by lia. apply Forced; [apply plain_bounded|]. intros d Hd.
      rewrite plain_no_hit; trivial; [apply Nat.eqb_neq; lia|].
      simpl. destruct (Nat.leb_spec s d), (Nat.ltb_spec d e); trivial; lia.
  Qed.

  (** ** Each recorded hit is read once *)

  (** The next cut, and the hits that are left to read: those passed over and the one
      that cuts are gone; those at or past a forced cut stay. *)
  Fixpoint read_next (record : list (nat * bool)) (b : nat) : nat * list (nat * bool) :=
    match record with
    | [] => (b + max, [])
    | (c, is_strict) :: rest =>
        if b + max <=? c then (b + max, record)
        else if b + need is_strict <=? c then (c, rest)
        else read_next rest b
    end.

  (** The cuts below [e], the record read front to back. *)
  Fixpoint read_cuts (record : list (nat * bool)) (b e fuel : nat) : list nat :=
    match fuel with
    | 0 => []
    | S k => let (c, rest) := read_next record b in
             if c <? e then c :: read_cuts rest c e k else []
    end.

  Fixpoint ascending_record (lo : nat) (record : list (nat * bool)) : Prop :=
    match record with
    | [] => True
    | (c, _) :: rest => lo <= c /\ ascending_record (S c) rest
    end.

  Lemma ascending_record_weaken : forall record lo lo',
    lo' <= lo -> ascending_record lo record -> ascending_record lo' record.
  Proof. intros [|[c k] rest]; simpl; [easy|]. intuition lia. Qed.

  Lemma hits_from_ascending : forall h k x, ascending_record x (hits_from h x k).
  Proof.
    induction k as [|k IH]; intros x; [exact I|]. rewrite hits_from_cons.
    destruct (loose h x); simpl; [split; [lia|apply IH]|].
    apply (ascending_record_weaken _ (S x)); [lia|apply IH].
  Qed.

  (** Hits at or before a chunk's begin do not matter to it. *)
  Lemma read_hits_do_not_matter : forall read rest b,
    (forall c k, In (c, k) read -> c <= b) ->
    next_recorded (read ++ rest) b = next_recorded rest b.
  Proof.
    induction read as [|[c k] read IH]; intros rest b H; trivial. simpl.
    pose proof (H c k (or_introl eq_refl)).
    destruct (Nat.leb_spec (b + max) c); [lia|].
    destruct (Nat.leb_spec (b + need k) c); [unfold need in *; destruct k; lia|].
    apply IH. intros. apply (H _ k0). now right.
  Qed.

  Lemma read_next_spec : forall record lo b, ascending_record lo record ->
    exists read rest,
      read_next record b = (next_recorded record b, rest) /\ record = read ++ rest
      /\ (forall c k, In (c, k) read -> c <= next_recorded record b)
      /\ ascending_record lo rest.
  Proof.
    induction record as [|[c k] record IH]; intros lo b A; [now exists [], []|].
    simpl in A. destruct A as [L A]. simpl.
    destruct (Nat.leb_spec (b + max) c) as [Far|Near].
    - exists [], ((c, k) :: record). simpl. repeat split; trivial. easy.
    - destruct (Nat.leb_spec (b + need k) c) as [Cut|Short].
      + exists [(c, k)], record. repeat split; trivial.
        * intros c' k' [E|[]]. injection E as -> ->. lia.
        * apply (ascending_record_weaken _ (S c)); trivial. lia.
      + destruct (IH (S c) b A) as (read & rest & E & R & U & A'). exists ((c, k) :: read), rest.
        repeat split; trivial.
        * now rewrite R.
        * intros c' k' [E'|I']; [injection E' as -> ->|now apply (U _ k')].
          (* the chunk ends past the hits that were passed over *)
          assert (G : forall r, ascending_record (S c') r -> c' <= next_recorded r b).
          { induction r as [|[d j] r IHr]; simpl; [lia|]. intros [Ld Ar].
            destruct (b + max <=? d); [lia|]. destruct (b + need j <=? d); [lia|].
            apply IHr. apply (ascending_record_weaken _ (S d)); trivial. lia. }
          now apply G.
        * apply (ascending_record_weaken _ (S c)); trivial. lia.
  Qed.

  (** Reading once gives what walking the whole record for each chunk gives. *)
  Theorem read_once : forall record lo b e fuel, ascending_record lo record ->
    read_cuts record b e fuel = jump (next_recorded record) b e fuel.
  Proof.
    intros record lo b e fuel A.
    assert (G : forall fuel read rest b, ascending_record lo rest ->
              (forall c k, In (c, k) read -> c <= b) ->
              read_cuts rest b e fuel = jump (next_recorded (read ++ rest)) b e fuel).
    { induction fuel0 as [|k IH]; intros read rest b' Ar H; simpl; trivial.
      rewrite (read_hits_do_not_matter read rest b' H).
      destruct (read_next_spec rest lo b' Ar) as (read' & rest' & -> & R & U & A').
      destruct (Nat.ltb_spec (next_recorded rest b') e); trivial. f_equal.
      rewrite R, app_assoc, <- R. apply IH; trivial.
      intros c j I. apply in_app_or in I. destruct I as [I|I]; [|now apply (U _ j)].
      apply H in I. assert (b' <= next_recorded rest b'); [|lia].
      clear - sizes. induction rest as [|[d j'] r IHr]; simpl; [lia|].
      destruct (Nat.leb_spec (b' + max) d); [lia|].
      destruct (Nat.leb_spec (b' + need j') d); [lia|assumption]. }
    apply (G fuel [] record b); trivial. easy.
  Qed.

  (** ** Runs without hits: forced cuts are arithmetic *)

  Theorem forced_run : forall h, nested h -> forall k b,
    (forall c, b < c < b + k * max -> loose h c = false) ->
    cuts min max (plain h) b (b + k * max) = map (fun i => b + i * max) (seq 1 (k - 1)).
  Proof.
    intros h N k b Quiet.
    rewrite (cuts_sweep _ _ min_max_sizes _ (plain_bounded h)).
    (* One forced chunk at a time. *)
    assert (G : forall j i, i + S j = k ->
              sweep (plain h) (b + i * max) (S (b + i * max)) (j * max + (max - 1))
              = map (fun i => b + i * max) (seq (S i) j)).
    { induction j as [|j IH]; intros i E.
      - simpl. apply quiet. intros c Hc.
        assert (c < b + k * max) by nia.
        rewrite plain_no_hit by (trivial; apply Quiet; nia). apply Nat.eqb_neq. lia.
      - replace (S j * max + (max - 1)) with ((max - 1) + S (j * max + (max - 1))) by lia.
        rewrite sweep_app.
        destruct (quiet (plain h) (max - 1) (b + i * max) (S (b + i * max))) as [Q1 Q2].
        { intros c Hc. assert (c < b + k * max) by nia.
          rewrite plain_no_hit by (trivial; apply Quiet; nia). apply Nat.eqb_neq. lia. }
        rewrite Q1, Q2, app_nil_l.
        replace (S (b + i * max) + (max - 1)) with (b + S i * max) by lia.
        cbn [sweep seq map].
        replace (plain h (b + i * max) (b + S i * max)) with true.
        + f_equal. rewrite <- IH by lia. reflexivity.
        + symmetry. replace (b + S i * max) with (b + i * max + max) by lia.
          apply (fires_at_max _ _ _ (plain_bounded h)). }
    destruct k as [|k]; simpl.
    - now replace (b + 0 - S b) with 0 by lia.
    - specialize (G k 0 eq_refl). rewrite Nat.sub_0_r, <- G, Nat.mul_0_l, Nat.add_0_r.
      f_equal. lia.
  Qed.
End Plain.
